//! Alerts for payments above 500.00 that follow one below 1.00 within a minute.

use pelton::prelude::*;

/// A payment.
#[derive(Record)]
struct Transaction {
    account: i64,
    time: Timestamp,
    amount: Decimal<2>,
}

/// A payment that may be a thief's.
#[derive(Record, PartialEq, Debug)]
struct Alert {
    account: i64,
    time: Timestamp,
    amount: Decimal<2>,
    /// When the small payment before it was made.
    small_at: Timestamp,
}

/// Below 1.00, a payment is small.
const SMALL: Decimal<2> = Decimal(100);
/// Above 500.00, a payment is large.
const LARGE: Decimal<2> = Decimal(50_000);
/// For so long a small payment is suspicious.
const WINDOW: Duration = minutes(1);

/// Watches the accounts of `input`.
#[pelton::job]
pub fn fraud_alerts(job: &mut Job, params: &Params) -> Result<()> {
    let output = match params.get("output") {
        None | Some("print") => print().option("format", "json"),
        Some(folder) => files::csv_sink(folder),
    };
    let transactions =
        job.source::<Transaction>("transactions", files::csv(params.require("input")?));
    alerts(transactions).sink("alerts", output);
    Ok(())
}

fn alerts(transactions: Stream<Transaction>) -> Stream<Alert> {
    transactions
        .assign_timestamps_by(bounded(seconds(5)), Transaction::TIME)
        .key_by(Transaction::ACCOUNT)
        .process("detect", Detector::new)
}

struct Detector {
    /// When an account's last payment was made, if that was a small one.
    small_at: ValueState<Timestamp>,
}

impl Detector {
    fn new(states: &mut States) -> Self {
        Self {
            small_at: states.value("small-at"),
        }
    }
}

impl KeyedProcess for Detector {
    type Key = i64;
    type In = Transaction;
    type Out = Alert;

    fn process(&self, account: i64, paid: TransactionRef<'_>, cx: &mut Ctx, out: &mut Out<Alert>) {
        let TransactionRef { time, amount, .. } = paid;
        if let Some(small_at) = self.small_at.get() {
            // The timer may fire a little later than its time: the payments' own times decide.
            if amount > LARGE && time - small_at <= WINDOW {
                out.emit(Alert {
                    account,
                    time,
                    amount,
                    small_at,
                });
            }
            cx.delete_timer(small_at + WINDOW);
            self.small_at.clear();
        }
        if amount < SMALL {
            self.small_at.set(time);
            cx.set_timer(time + WINDOW);
        }
    }

    fn on_timer(&self, _: i64, _: Timestamp, _: &mut Ctx, _: &mut Out<Alert>) {
        self.small_at.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton::testing::Harness;

    fn pay(account: i64, second: i64, cents: i128) -> Transaction {
        Transaction {
            account,
            time: Timestamp(second * 1_000),
            amount: Decimal(cents),
        }
    }

    fn alert(account: i64, second: i64, cents: i128, small_at: i64) -> Alert {
        let Transaction {
            account,
            time,
            amount,
        } = pay(account, second, cents);
        Alert {
            account,
            time,
            amount,
            small_at: Timestamp(small_at * 1_000),
        }
    }

    #[track_caller]
    fn check(payments: impl IntoIterator<Item = Transaction>, expected: &[Alert]) {
        let mut harness = Harness::new(alerts);
        payments.into_iter().for_each(|p| harness.push(p));
        assert_eq!(harness.take(), expected);
    }

    #[test]
    fn a_large_payment_after_a_small_one_is_told() {
        check(
            [pay(1, 0, 50), pay(1, 60, 70_000)],
            &[alert(1, 60, 70_000, 0)],
        );
        check(
            [pay(1, 0, 50), pay(1, 10, 50), pay(1, 65, 70_000)],
            &[alert(1, 65, 70_000, 10)],
        );
    }

    #[test]
    fn all_others_are_not() {
        check([pay(1, 0, 50), pay(2, 1, 70_000)], &[]);
        check([pay(1, 0, 50), pay(1, 61, 70_000)], &[]);
        check([pay(1, 0, 50), pay(1, 1, 500), pay(1, 2, 70_000)], &[]);
        check([pay(1, 0, 100), pay(1, 1, 70_000)], &[]);
        check([pay(1, 0, 99), pay(1, 1, 50_000)], &[]);
    }

    #[test]
    fn an_account_is_forgotten_after_a_minute() {
        let mut harness = Harness::new(alerts);
        harness.push(pay(1, 0, 50));
        harness.push(pay(1, 10, 50));
        assert_eq!(
            harness.timers(),
            [Timestamp(70_000)],
            "the first timer is deleted"
        );
        assert_eq!(harness.state("small-at", &1_i64), Some(Timestamp(10_000)));
        harness.watermark(Timestamp(69_999));
        assert_eq!(harness.state("small-at", &1_i64), Some(Timestamp(10_000)));
        harness.watermark(Timestamp(70_000));
        assert_eq!(harness.state::<Timestamp, _>("small-at", &1_i64), None);
    }
}
