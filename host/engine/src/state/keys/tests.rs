use super::*;
use arrow_array::StringArray;
use proptest::prelude::*;
use std::collections::HashMap;

fn int() -> Vec<Field> {
    vec![Field::new("k", DataType::I64)]
}

fn text() -> Vec<Field> {
    vec![Field::new("k", DataType::String)]
}

fn numbers(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(Int64Array::from(keys.to_vec()))]
}

fn words(keys: &[i64]) -> Vec<ArrayRef> {
    vec![Arc::new(
        keys.iter()
            .map(|k| Some(format!("key {k}")))
            .collect::<StringArray>(),
    )]
}

#[test]
fn ordinals_follow_first_appearance() {
    for (fields, columns) in [
        (int(), numbers as fn(&[i64]) -> Vec<ArrayRef>),
        (text(), words),
    ] {
        let mut index = KeyIndex::new(fields, 0);
        let mut t = Touched::default();
        index.touch(&columns(&[5, 0, 5, 9]), 4, &mut t).unwrap();
        assert_eq!(
            (&t.ordinals[..], &t.slots[..], &t.first_rows[..]),
            (&[0, 1, 0, 2][..], &[0, 1, 2][..], &[0, 1, 3][..])
        );
        index.touch(&columns(&[9, 7, 5]), 3, &mut t).unwrap();
        assert_eq!(
            (&t.ordinals[..], &t.slots[..]),
            (&[0, 1, 2][..], &[2, 3, 0][..])
        );
        assert_eq!(
            index.columns(&[2, 0]).unwrap()[0].as_ref(),
            columns(&[9, 5])[0].as_ref()
        );
        let mut slots = Vec::new();
        index
            .locate(&columns(&[1, 5, 9]), RowSet::These(&[2, 1]), &mut slots)
            .unwrap();
        assert_eq!(slots, [2, 0]);
    }
}

#[test]
fn a_null_key_of_a_plain_field_is_refused() {
    let mut index = KeyIndex::new(int(), 0);
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    assert!(index.touch(&[nulls], 2, &mut Touched::default()).is_err());
}

proptest! {
    #[test]
    fn an_index_is_a_map(steps in prop::collection::vec((prop::collection::vec(-20i64..200, 1..80), prop::collection::vec(-20i64..200, 0..40)), 1..20)) {
        for (fields, columns) in [(int(), numbers as fn(&[i64]) -> Vec<ArrayRef>), (text(), words)] {
            let mut index = KeyIndex::new(fields, 0);
            let mut model: HashMap<i64, u32> = HashMap::new();
            let mut t = Touched::default();
            for (add, remove) in &steps {
                index.touch(&columns(add), add.len(), &mut t).unwrap();
                for (key, ordinal) in add.iter().zip(&t.ordinals) {
                    let slot = t.slots[*ordinal as usize];
                    prop_assert_eq!(*model.entry(*key).or_insert(slot), slot);
                    prop_assert_eq!(add[t.first_rows[*ordinal as usize] as usize], *key);
                }
                for key in remove {
                    if let Some(slot) = model.remove(key) {
                        index.remove(slot);
                    }
                }
                prop_assert_eq!(index.len(), model.len());
                let keys: Vec<i64> = model.keys().copied().collect();
                let slots: Vec<u32> = model.values().copied().collect();
                prop_assert!(index.columns(&slots).unwrap() == columns(&keys));
                let mut used = slots.clone();
                used.sort_unstable();
                used.dedup();
                prop_assert_eq!(used.len(), slots.len(), "a slot stands for one key");
            }
        }
    }
}
