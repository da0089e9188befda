//! Which request is sent next: a model by its weight, and its requests in turn. Pure.

use super::target::{Prepared, Target, Wanted};
use crate::chance::Sequence;

/// The requests to one model.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its share of all requests, against those of the others.
    pub weight: f64,
    /// Sent one after the other, again and again.
    pub requests: Vec<Wanted>,
}

/// All requests, ready to be sent.
pub(super) struct Mix {
    groups: Vec<Vec<Prepared>>,
    /// The share of all requests that goes to a group or to one before it.
    up_to: Vec<f64>,
}

/// How far one thread has come.
pub(super) struct Draw {
    chance: Sequence,
    next: Vec<usize>,
}

/// A request of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    pub(super) group: usize,
    index: usize,
}

impl Mix {
    /// Makes the requests ready; there have to be some in each group, and weights that are above zero.
    pub(super) fn new(target: &Target, groups: &[Group]) -> Result<Mix, String> {
        let total: f64 = groups.iter().map(|group| group.weight).sum();
        let is_wrong =
            |group: &Group| group.requests.is_empty() || group.weight.is_nan() || group.weight <= 0.0;
        if groups.is_empty() || groups.iter().any(is_wrong) || !total.is_finite() {
            return Err("each model needs a request, and a weight above 0".to_owned());
        }
        let prepared = |group: &Group| group.requests.iter().map(|one| target.prepared(one)).collect();
        let mut passed = 0.0;
        let up_to = groups.iter().map(|group| {
            passed += group.weight / total;
            passed
        });
        let up_to = up_to.collect();
        Ok(Mix { groups: groups.iter().map(prepared).collect::<Result<_, String>>()?, up_to })
    }

    /// Begins to draw; `number`: of the thread.
    pub(super) fn draw(&self, seed: u64, number: usize) -> Draw {
        // Threads begin with different requests.
        let next = self.groups.iter().map(|group| number % group.len()).collect();
        Draw { chance: Sequence(seed ^ (number as u64).wrapping_mul(0x9e37_79b9)), next }
    }

    /// Draws the next request.
    pub(super) fn next(&self, draw: &mut Draw) -> Drawn {
        let group = match self.up_to.as_slice() {
            [_] => 0,
            up_to => {
                let chosen = draw.chance.unit();
                up_to.iter().position(|end| chosen <= *end).unwrap_or(up_to.len() - 1)
            }
        };
        let mut drawn = Drawn { group, index: 0 };
        if let (Some(next), Some(requests)) = (draw.next.get_mut(group), self.groups.get(group)) {
            drawn.index = *next;
            *next = if *next + 1 < requests.len() { *next + 1 } else { 0 };
        }
        drawn
    }

    /// Shares a number of requests between the groups by their weights.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Below 2⁵³.
    pub(super) fn shares(&self, number: u64) -> Vec<u64> {
        let mut passed = 0;
        let last = self.up_to.len() - 1;
        let share = |(index, up_to): (usize, &f64)| {
            let end = if index == last { number } else { (up_to * number as f64).round() as u64 };
            let share = end.min(number).saturating_sub(passed);
            passed += share;
            share
        };
        self.up_to.iter().enumerate().map(share).collect()
    }

    /// Returns the request; `None` for one of another mix.
    pub(super) fn get(&self, drawn: Drawn) -> Option<&Prepared> {
        self.groups.get(drawn.group)?.get(drawn.index)
    }

    /// Returns the number of groups.
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Wire;
    use super::*;

    fn mix(of: &[(f64, usize)]) -> Result<Mix, String> {
        let target = Target { wire: Wire::Http1, host: "h".to_owned(), port: 1, trust: None };
        let request = Wanted { path: "/".to_owned(), ..Wanted::default() };
        let groups: Vec<_> = of
            .iter()
            .map(|(weight, count)| Group { weight: *weight, requests: vec![request.clone(); *count] })
            .collect();
        Mix::new(&target, &groups)
    }

    #[test]
    fn models_get_their_weights_and_requests_their_turns() {
        let mix = mix(&[(1.0, 2), (3.0, 3)]).unwrap();
        let mut draw = mix.draw(5, 0);
        let drawn: Vec<_> = (0..8000).map(|_| mix.next(&mut draw)).collect();
        let first = drawn.iter().filter(|one| one.group == 0).count();
        assert!((1800..2200).contains(&first), "{first}");
        let turns: Vec<_> = drawn.iter().filter(|one| one.group == 1).map(|one| one.index).take(5).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1]);
        assert!(drawn.iter().all(|one| mix.get(*one).is_some()));
        assert_eq!(
            (mix.shares(1001), mix.shares(1), mix.shares(0)),
            (vec![250, 751], vec![0, 1], vec![0, 0])
        );
    }

    #[test]
    fn a_mix_of_nothing_is_refused() {
        let none: [&[(f64, usize)]; 5] = [&[], &[(1.0, 0)], &[(0.0, 1)], &[(f64::NAN, 1)], &[(-1.0, 1)]];
        assert!(none.iter().all(|of| mix(of).is_err()));
        assert!(mix(&[(f64::INFINITY, 1)]).is_err());
    }
}
