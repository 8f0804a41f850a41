//! Sketches: their error, their forms, and that merging is adding.

use super::*;

fn sketch(values: impl Iterator<Item = u64>) -> UniqueSketch {
    let (mut sketch, mut hasher) = (UniqueSketch::new(), UniqueHasher::default());
    values.for_each(|v| sketch.add_hash(hasher.hash::<u64>(v)));
    sketch
}

fn error(sketch: &UniqueSketch, exact: u64) -> f64 {
    (sketch.estimate() as f64 - exact as f64) / exact as f64
}

#[test]
fn small_counts_are_exact_and_small() {
    let mut former = UniqueSketch::new();
    assert_eq!((former.estimate(), former.bytes()), (0, 0));
    for n in 1..=1_024 {
        former.add::<u64>(n);
        former.add::<u64>(n);
        assert_eq!(former.estimate(), n);
    }
    assert_eq!(former.bytes(), 1 + 4 * 1_024);
    former.add::<u64>(0);
    assert_eq!(former.bytes(), 1 + REGISTERS);
    assert!(error(&former, 1_025).abs() < 0.02);
}

#[test]
fn the_standard_error_is_as_stated() {
    for exact in [5_000u64, 20_000, 60_000, 200_000] {
        let (mut squares, runs) = (0.0, 40);
        for run in 0..runs {
            let e = error(&sketch((0..exact).map(|v| run << 40 | v)), exact);
            assert!(e.abs() < 4.0 * 0.0081, "{exact}: {e}");
            squares += e * e;
        }
        let standard = (squares / runs as f64).sqrt();
        // 40 runs tell the standard error to about 11 %.
        assert!(standard < 0.0081 * 1.35, "{exact}: {standard}");
    }
}

#[test]
fn merging_is_adding() {
    for (a, b) in [
        (0..10, 5..20),
        (0..900, 500..1_400),
        (0..3_000, 10..20),
        (10..20, 0..3_000),
        (0..5_000, 4_000..90_000),
        (0..0, 0..7),
    ] {
        let mut merged = sketch(a.clone());
        merged.merge(&sketch(b.clone()));
        assert_eq!(merged, sketch(a.chain(b)));
    }
}

#[test]
fn bytes_that_are_no_sketch_count_as_none() {
    for bytes in [vec![2, 1], vec![9; 70], vec![1], vec![1, 2]] {
        let mut broken = UniqueSketch(bytes);
        assert_eq!(broken.estimate(), 0);
        broken.add::<u64>(1);
        assert_eq!(broken.estimate(), 1);
    }
    assert!(UniqueSketch([vec![DENSE], vec![255; REGISTERS]].concat()).estimate() > 0);
}

/// The hash and the bytes of a sketch stand in states: a change of either is a change of format.
#[test]
fn the_format_is_frozen() {
    let mut hasher = UniqueHasher::default();
    assert_eq!(hasher.hash::<u64>(1), xxh64(&[0, 0, 0, 0, 0, 0, 0, 1], 0));
    assert_eq!(hasher.hash::<String>("a"), xxh64(&[0, 0, 0, 1, b'a'], 0));
    let mut two = UniqueSketch::new();
    two.add_hash(0xFFFF_FFC0_0000_0001);
    two.add_hash(0x0000_0040_8000_0000);
    assert_eq!(two.lend(), [1, 0x47, 0, 0, 0, 0xE6, 0xFF, 0xFF, 0xFF]);
}
