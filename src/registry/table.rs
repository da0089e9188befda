//! An ordered map from names to shared values, whose copies share what they have in common.
//!
//! A change makes a new table of the old one: it copies one chunk, and the list of chunks, so that with ten thousand
//! models it takes some microseconds and not a copy of all names. Looking up compares names, as in a `BTreeMap`.

use std::sync::Arc;

/// Most entries of a chunk: about the square root of ten thousand, where the list of chunks is as long as one of them.
const MOST: usize = 128;

type Chunk<T> = Vec<(Arc<str>, Arc<T>)>;

/// The map. No chunk is empty.
#[derive(Debug)]
pub(super) struct Table<T> {
    chunks: Vec<Arc<Chunk<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { chunks: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Returns the value of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        let chunk = self.chunks.get(self.chunk_for(name))?;
        let found = chunk.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&chunk[found].1)
    }

    /// Returns a table in which `name` has this value.
    pub(super) fn with(&self, name: &str, value: Arc<T>) -> Table<T> {
        let mut chunks = self.chunks.clone();
        let at = self.chunk_for(name);
        let Some(chunk) = chunks.get(at) else {
            return Table { chunks: vec![Arc::new(vec![(name.into(), value)])] };
        };
        let mut entries = Chunk::clone(chunk);
        match entries.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(found) => entries[found].1 = value,
            Err(place) => entries.insert(place, (name.into(), value)),
        }
        if entries.len() > MOST {
            let second = entries.split_off(entries.len() / 2);
            chunks.insert(at + 1, Arc::new(second));
        }
        chunks[at] = Arc::new(entries);
        Table { chunks }
    }

    /// Returns all entries, by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<T>)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(name, value)| (name, value)))
    }

    /// Returns all values, by name.
    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<T>> {
        self.iter().map(|(_, value)| value)
    }

    /// Returns the place of the only chunk in which `name` can be.
    fn chunk_for(&self, name: &str) -> usize {
        if self.chunks.len() < 2 {
            return 0;
        }
        let begins_after = |chunk: &Arc<Chunk<T>>| chunk.first().is_some_and(|(first, _)| **first > *name);
        self.chunks.partition_point(|chunk| !begins_after(chunk)).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_is_an_ordered_map(names in prop::collection::vec("[a-d]{0,5}", 0..900)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (value, name) in names.iter().enumerate() {
                table = table.with(name, Arc::new(value));
                map.insert(name.clone(), value);
            }
            let all: Vec<_> = table.iter().map(|(name, value)| (name.to_string(), **value)).collect();
            prop_assert_eq!(all, map.clone().into_iter().collect::<Vec<_>>());
            for name in names.iter().map(String::as_str).chain(["", "b", "zz"]) {
                prop_assert_eq!(table.get(name).map(|value| **value), map.get(name).copied());
            }
            prop_assert!(table.chunks.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= MOST));
        }
    }

    #[test]
    fn a_change_leaves_the_former_table_and_shares_the_rest_of_it() {
        let mut before = Table::default();
        for number in 0..1000 {
            before = before.with(&format!("m{number:04}"), Arc::new(number));
        }
        let after = before.with("m0500", Arc::new(-1));
        assert_eq!(
            (before.get("m0500").map(|one| **one), after.get("m0500").map(|one| **one)),
            (Some(500), Some(-1))
        );
        let shared = before.chunks.iter().zip(&after.chunks).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.count(), before.chunks.len() - 1);
    }
}
