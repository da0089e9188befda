//! Tests of whose turn it is, batches included.

use super::*;

fn batches(setup: &mut Setup, model: &str) -> LaneId {
    let lane = setup.lane(model);
    setup.queues.has_batches(lane);
    lane
}

#[test]
fn batches_of_all_queues_are_limited_and_leave_slots_to_others() {
    let mut setup = setup(Limits { batch_threads: 2, ..slots(4, 2) });
    let (one, other) = (batches(&mut setup, "one"), batches(&mut setup, "other"));
    let single = setup.lane("single");
    for lane in [one, other] {
        setup.measure(lane, 1);
        (0..3).for_each(|_| assert!(setup.push(lane).is_ok()));
    }
    let (run, _) = setup.next().unwrap();
    assert!(setup.next().is_some());
    assert!(setup.next().is_none(), "though there are slots, and they are short");
    setup.push(single).unwrap();
    assert!(setup.next().is_some());
    setup.end_after(run, 1);
    assert!(setup.next().is_some());
    assert!(setup.next().is_none());
}

#[test]
fn batches_take_slots_from_what_runs_alone() {
    let mut setup = setup(Limits { batch_threads: 4, ..slots(2, 1) });
    let (long, single) = (batches(&mut setup, "long"), setup.lane("single"));
    let short = batches(&mut setup, "short");
    setup.measure(long, 500);
    setup.measure(single, 500);
    setup.measure(short, 1);
    for lane in [long, single, long, single] {
        setup.push(lane).unwrap();
    }
    assert!(setup.next().is_some() && setup.next().is_some() && setup.next().is_none());
    setup.push(short).unwrap();
    assert!(setup.next().is_some(), "a short batch takes a spare slot");
}

#[test]
fn batches_that_hang_keep_their_places_from_their_own_model_alone() {
    let mut setup = setup(Limits { batch_threads: 1, ..slots(4, 0) });
    let (hanging, other) = (batches(&mut setup, "hanging"), batches(&mut setup, "other"));
    setup.measure(hanging, 5);
    setup.push(hanging).unwrap();
    let (run, _) = setup.next().unwrap();
    setup.push(hanging).unwrap();
    setup.push(other).unwrap();
    assert!(setup.next().is_none());
    setup.now += ms(2000);
    let (others, job) = setup.next().unwrap();
    assert_eq!(job, setup.pushed);
    setup.end_after(others, 5);
    assert!(setup.next().is_none());
    setup.queues.end(run, false, setup.now);
    assert!(setup.next().is_some());
}

/// Returns the queue whose turn it is by a look at all of them, with the times used; several may have used as much.
fn first_of_all(queues: &Queues<u64>, now: Instant) -> Option<(f64, f64, Vec<LaneId>)> {
    let taken = |spare| queues.running.values().filter(|run| run.spare == spare && !run.hangs(now)).count();
    let spare = taken(false) >= queues.limits.slots;
    if spare && taken(true) >= queues.limits.spare {
        return None;
    }
    let mut best: Option<(f64, f64, Vec<LaneId>)> = None;
    for (id, lane) in queues.lanes.iter().filter(|(_, lane)| !lane.is_empty()) {
        let short = lane.shortest_run().is_some_and(|time| time <= ms(2)) && !lane.never_short;
        let may = (!spare || short)
            && lane.may_begin(&queues.limits)
            && !queues.all_hang(*id, lane, now)
            && !(lane.has_batches && queues.has_most_batches(&lane.model, now));
        let (model, used) = (queues.models[&lane.model].used, lane.used);
        let order =
            best.as_ref().map(|(least, of_lane, _)| model.total_cmp(least).then(used.total_cmp(of_lane)));
        match order {
            _ if !may => {}
            Some(std::cmp::Ordering::Equal) => best.as_mut().unwrap().2.push(*id),
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Less) | None => best = Some((model, used, vec![*id])),
        }
    }
    best
}

proptest! {
    #[test]
    fn the_next_is_the_first_of_all(
        events in prop::collection::vec(event(), 0..300),
        count in 1usize..4,
        spare in 0usize..2,
        batch_threads in 1usize..3,
    ) {
        let mut setup = setup(Limits { batch_threads, batches_at_once: 1, ..slots(count, spare) });
        let lanes = [setup.lane("a"), setup.queues.add("a", true, setup.now), setup.lane("c"), setup.lane("d")];
        setup.queues.never_short(lanes[2]);
        setup.queues.has_batches(lanes[3]);
        let (mut waiting, mut running) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Push { lane, deadline } => {
                    waiting.extend(setup.push_until(lanes[lane], deadline).map(|number| (lanes[lane], number)));
                }
                Event::Next => running.extend(setup.next().map(|(run, _)| run)),
                Event::End { index, measured } if !running.is_empty() => {
                    let run = running.swap_remove(index % running.len());
                    setup.queues.end(run, measured, setup.now);
                }
                Event::Withdraw { index } if !waiting.is_empty() => {
                    let (lane, number) = waiting.swap_remove(index % waiting.len());
                    setup.queues.withdraw(lane, number, setup.now);
                }
                Event::Pass(millis) => setup.now += ms(millis / 100),
                Event::End { .. } | Event::Withdraw { .. } | Event::Hold { .. } | Event::LetGo => {}
            }
            let chosen = setup.queues.choose(setup.now).map(|(id, _)| id);
            match first_of_all(&setup.queues, setup.now) {
                None => prop_assert_eq!(chosen, None),
                // Of models that have used as much, any.
                Some((used, _, of)) => {
                    let id = chosen.unwrap();
                    let model = &setup.queues.lanes[&id].model;
                    let tied = setup.queues.models[model].used.total_cmp(&used).is_eq();
                    prop_assert!(of.contains(&id) || (tied && setup.queues.lanes[&of[0]].model != *model));
                }
            }
        }
    }
}

#[test]
fn a_thread_goes_on_with_other_work_in_its_slot_unless_something_waits() {
    let mut setup = setup(Limits { batch_threads: 1, ..slots(2, 0) });
    let (bodies, batch) = (setup.lane("m"), batches(&mut setup, "m"));
    setup.push(bodies).unwrap();
    setup.push(bodies).unwrap();
    let (first, _) = setup.next().unwrap();
    assert_eq!(setup.queues.go_on(first, batch, setup.now), None, "one waits");
    let (second, _) = setup.next().unwrap();
    let run = setup.queues.go_on(first, batch, setup.now).unwrap();
    assert_eq!(setup.queues.running.len(), 2);
    assert_eq!(setup.queues.go_on(second, batch, setup.now), None, "one batch runs, as many as may");
    setup.end_after(run, 7);
    assert_eq!(setup.queues.lanes[&batch].run_time(), Some(ms(7)));
    assert!(setup.queues.go_on(second, batch, setup.now).is_some());
    assert_eq!(setup.queues.models.values().map(|model| model.bytes).sum::<usize>(), 0);
}
