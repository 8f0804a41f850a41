//! What can be summed and what can be ordered: the fields that rolling aggregates and rankings work on.

use std::cmp::Ordering;

use crate::time::{Date, Decimal, Timestamp};
use crate::value::Value;

/// A number that can be summed.
pub trait Number: for<'a> Value<Ref<'a> = Self> + Copy {
    /// What sums of many are kept in.
    type Sum: for<'a> Value<Ref<'a> = Self::Sum> + Copy + Default;
    /// The sum of two; none where it does not fit.
    fn plus(self, other: Self) -> Option<Self>;
    /// The sum so far and this; none where it does not fit.
    fn add_to(self, sum: Self::Sum) -> Option<Self::Sum>;
    /// The sum so far without this; none where it does not fit.
    fn take_from(self, sum: Self::Sum) -> Option<Self::Sum>;
    /// A sum as a number of this type; none where it does not fit.
    fn of_sum(sum: Self::Sum) -> Option<Self>;
    /// A sum divided by how many there are.
    fn mean(sum: Self::Sum, count: i64) -> f64;
}

macro_rules! integers {
    ($($t:ty),*) => { $(
        impl Number for $t {
            type Sum = Decimal<0>;
            #[inline]
            fn plus(self, other: Self) -> Option<Self> {
                self.checked_add(other)
            }
            #[inline]
            fn add_to(self, sum: Decimal<0>) -> Option<Decimal<0>> {
                sum.0.checked_add(i128::from(self)).map(Decimal)
            }
            #[inline]
            fn take_from(self, sum: Decimal<0>) -> Option<Decimal<0>> {
                sum.0.checked_sub(i128::from(self)).map(Decimal)
            }
            #[inline]
            fn of_sum(sum: Decimal<0>) -> Option<Self> {
                Self::try_from(sum.0).ok()
            }
            #[inline]
            fn mean(sum: Decimal<0>, count: i64) -> f64 {
                sum.0 as f64 / count as f64
            }
        }
    )* };
}
integers!(i8, i16, i32, i64, u8, u16, u32, u64);

macro_rules! floats {
    ($($t:ty),*) => { $(
        impl Number for $t {
            type Sum = f64;
            #[inline]
            fn plus(self, other: Self) -> Option<Self> {
                Some(self + other)
            }
            #[inline]
            fn add_to(self, sum: f64) -> Option<f64> {
                Some(sum + f64::from(self))
            }
            #[inline]
            fn take_from(self, sum: f64) -> Option<f64> {
                Some(sum - f64::from(self))
            }
            #[inline]
            fn of_sum(sum: f64) -> Option<Self> {
                Some(sum as $t)
            }
            #[inline]
            fn mean(sum: f64, count: i64) -> f64 {
                sum / count as f64
            }
        }
    )* };
}
floats!(f32, f64);

impl<const SCALE: u8> Number for Decimal<SCALE> {
    type Sum = Self;
    fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
    fn add_to(self, sum: Self) -> Option<Self> {
        sum.plus(self)
    }
    fn take_from(self, sum: Self) -> Option<Self> {
        sum.0.checked_sub(self.0).map(Self)
    }
    fn of_sum(sum: Self) -> Option<Self> {
        Some(sum)
    }
    fn mean(sum: Self, count: i64) -> f64 {
        sum.0 as f64 / 10f64.powi(i32::from(SCALE)) / count as f64
    }
}

/// A value with an order. Floats: as IEEE total order, so that every NaN of positive sign is the greatest. Null comes
/// before all else. Text and bytes: byte by byte.
pub trait Ordered: Value {
    /// How two compare.
    fn order(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering;
}

macro_rules! ordered {
    ($($t:ty),*) => { $(
        impl Ordered for $t {
            #[inline]
            fn order(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering {
                a.cmp(&b)
            }
        }
    )* };
}
ordered!(
    bool,
    i8,
    i16,
    i32,
    i64,
    u8,
    u16,
    u32,
    u64,
    Timestamp,
    Date,
    String,
    Vec<u8>
);

impl<const SCALE: u8> Ordered for Decimal<SCALE> {
    fn order(a: Self, b: Self) -> Ordering {
        a.cmp(&b)
    }
}

impl Ordered for f32 {
    fn order(a: f32, b: f32) -> Ordering {
        a.total_cmp(&b)
    }
}

impl Ordered for f64 {
    fn order(a: f64, b: f64) -> Ordering {
        a.total_cmp(&b)
    }
}

impl<T: Ordered> Ordered for Option<T> {
    fn order(a: Self::Ref<'_>, b: Self::Ref<'_>) -> Ordering {
        match (a, b) {
            (Some(a), Some(b)) => T::order(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_say_where_they_overflow() {
        assert_eq!(i8::MAX.plus(1), None);
        assert_eq!(7i64.plus(-9), Some(-2));
        let sum = i64::MAX.add_to(Decimal(0)).and_then(|s| i64::MAX.add_to(s));
        assert_eq!(sum, Some(Decimal(2 * i128::from(i64::MAX))));
        assert_eq!(i64::mean(Decimal(7), 2), 3.5);
        assert_eq!(Decimal::<2>::mean(Decimal(250), 2), 1.25);
        assert_eq!(Decimal::<2>(i128::MAX).plus(Decimal(1)), None);
        assert_eq!(5i64.take_from(Decimal(7)), Some(Decimal(2)));
    }

    #[test]
    fn orders_are_total() {
        assert_eq!(f64::order(f64::NAN, f64::INFINITY), Ordering::Greater);
        assert_eq!(f64::order(-0.0, 0.0), Ordering::Less);
        assert_eq!(Option::<i64>::order(None, Some(i64::MIN)), Ordering::Less);
        assert_eq!(String::order("b", "abc"), Ordering::Greater);
    }
}
