//! The order in which work has its turn: whose owner has used the least time is first. Pure.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// A kind of work: some kinds may begin when others may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) short: bool,
    /// True for batches, whose number is limited.
    pub(super) batch: bool,
}

/// Number of classes.
const CLASSES: usize = 4;

/// Time used, in seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Used(f64);

/// An owner's place: the time that it has used, and the classes of its waiting work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    used: Used,
    classes: [bool; CLASSES],
}

/// The owners of waiting work, in order in each class.
#[derive(Debug)]
pub(super) struct Turns<K> {
    classes: [BTreeSet<(Used, K)>; CLASSES],
}

impl Class {
    /// Returns all classes.
    pub(super) fn all() -> impl Iterator<Item = Class> {
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .map(|(short, batch)| Class { short, batch })
    }

    fn index(self) -> usize {
        usize::from(self.short) + 2 * usize::from(self.batch)
    }
}

impl Place {
    /// Returns the place of one whose waiting work is of `class`; `None` if it has none.
    pub(super) fn new(used: f64, class: Option<Class>) -> Place {
        let mut classes = [false; CLASSES];
        class.into_iter().for_each(|class| classes[class.index()] = true);
        Place { used: Used(used), classes }
    }
}

impl<K: Clone + Ord> Turns<K> {
    pub(super) fn new() -> Turns<K> {
        Turns { classes: std::array::from_fn(|_| BTreeSet::new()) }
    }

    /// Moves `owner` from place `known` to `place`.
    pub(super) fn put(&mut self, owner: &K, known: &mut Place, place: Place) {
        if *known == place {
            return;
        }
        for (index, owners) in self.classes.iter_mut().enumerate() {
            if known.classes[index] {
                owners.remove(&(known.used, owner.clone()));
            }
            if place.classes[index] {
                owners.insert((place.used, owner.clone()));
            }
        }
        *known = place;
    }

    /// Returns the place of an owner of all this work, which has `used` so much time.
    pub(super) fn place(&self, used: f64) -> Place {
        Place { used: Used(used), classes: self.classes.each_ref().map(|owners| !owners.is_empty()) }
    }

    /// Returns the owners of work of `class`, in order, and the time that each has used.
    pub(super) fn of(&self, class: Class) -> impl Iterator<Item = (f64, &K)> {
        self.classes[class.index()].iter().map(|(used, owner)| (used.0, owner))
    }
}

impl PartialEq for Used {
    fn eq(&self, other: &Used) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Used {}

impl PartialOrd for Used {
    fn partial_cmp(&self, other: &Used) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Used {
    fn cmp(&self, other: &Used) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_is_once_in_each_of_its_classes_and_in_order(
            moves in prop::collection::vec((0u8..6, 0u32..20, prop::option::of((any::<bool>(), any::<bool>()))), 0..60),
        ) {
            let mut turns = Turns::new();
            let mut places = [Place::default(); 6];
            let mut expected = [None; 6];
            for (owner, used, class) in moves {
                let class = class.map(|(short, batch)| Class { short, batch });
                turns.put(&owner, &mut places[usize::from(owner)], Place::new(f64::from(used), class));
                expected[usize::from(owner)] = class.map(|class| (used, class));
            }
            for class in Class::all() {
                let owners = (0u8..6).zip(expected);
                let of = |(owner, place): (u8, Option<(u32, Class)>)| {
                    place.filter(|(_, its)| *its == class).map(|(used, _)| (used, owner))
                };
                let mut all: Vec<(u32, u8)> = owners.filter_map(of).collect();
                all.sort_unstable();
                let found: Vec<(f64, u8)> = turns.of(class).map(|(used, owner)| (used, *owner)).collect();
                let all: Vec<(f64, u8)> = all.into_iter().map(|(used, owner)| (f64::from(used), owner)).collect();
                prop_assert_eq!(turns.place(0.0).classes[class.index()], !all.is_empty());
                prop_assert_eq!(found, all);
            }
        }
    }
}
