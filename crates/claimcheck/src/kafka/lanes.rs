//! Records wait here for their payloads and leave in the order in which they came.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
};

/// Lines of records, one per `K`; those of one line leave in order.
pub(super) struct Lanes<K, T> {
    lanes: HashMap<K, VecDeque<Slot<T>>>,
    next: u64,
}

struct Slot<T> {
    number: u64,
    /// `None` while its payload is on its way.
    record: Option<T>,
}

/// A place in a line.
#[derive(Clone, Debug)]
pub(super) struct Place<K> {
    lane: K,
    number: u64,
}

impl<K: Hash + Eq + Clone, T> Lanes<K, T> {
    pub(super) fn new() -> Lanes<K, T> {
        Lanes { lanes: HashMap::new(), next: 0 }
    }

    /// Nobody waits anywhere.
    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Nobody waits in the line.
    pub(super) fn is_clear(&self, lane: &K) -> bool {
        !self.lanes.contains_key(lane)
    }

    /// Takes a place at the end of a line.
    pub(super) fn enter(&mut self, lane: K, record: Option<T>) -> Place<K> {
        let number = self.next;
        self.next += 1;
        self.lanes.entry(lane.clone()).or_default().push_back(Slot { number, record });
        Place { lane, number }
    }

    /// The record of a place can go.
    pub(super) fn ready(&mut self, place: &Place<K>, record: T) {
        let slot = self.lanes.get_mut(&place.lane).and_then(|lane| lane.iter_mut().find(|slot| slot.number == place.number));
        if let Some(slot) = slot {
            slot.record = Some(record);
        }
    }

    /// A place is given up: its record will not go.
    pub(super) fn leave(&mut self, place: &Place<K>) {
        if let Some(lane) = self.lanes.get_mut(&place.lane) {
            lane.retain(|slot| slot.number != place.number);
            if lane.is_empty() {
                self.lanes.remove(&place.lane);
            }
        }
    }

    /// Hands out what can go from a line, in order, until `go` keeps one (gives it back) or one is not ready.
    pub(super) fn drain(&mut self, lane: &K, mut go: impl FnMut(T) -> Option<T>) -> bool {
        let Some(slots) = self.lanes.get_mut(lane) else { return true };
        while let Some(slot) = slots.front_mut() {
            let Some(record) = slot.record.take() else { return true };
            if let Some(record) = go(record) {
                slot.record = Some(record);
                return false;
            }
            slots.pop_front();
        }
        self.lanes.remove(lane);
        true
    }

    /// Lines whose first record can go.
    pub(super) fn stuck(&self) -> Vec<K> {
        let can_go = |slots: &VecDeque<Slot<T>>| slots.front().is_some_and(|slot| slot.record.is_some());
        self.lanes.iter().filter(|(_, slots)| can_go(slots)).map(|(lane, _)| lane.clone()).collect()
    }
}

impl<K> Place<K> {
    pub(super) fn lane(&self) -> &K {
        &self.lane
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(lanes: &mut Lanes<&'static str, u32>, lane: &'static str) -> Vec<u32> {
        let mut gone = Vec::new();
        lanes.drain(&lane, |record| {
            gone.push(record);
            None
        });
        gone
    }

    #[test]
    fn records_leave_in_the_order_in_which_they_came_whenever_they_become_ready() {
        let mut lanes = Lanes::new();
        let first = lanes.enter("a", None);
        let second = lanes.enter("a", None);
        lanes.enter("a", Some(3));
        lanes.enter("b", Some(9));
        assert_eq!((out(&mut lanes, "a"), out(&mut lanes, "b")), (vec![], vec![9]), "another line waits for nobody");
        lanes.ready(&second, 2);
        assert_eq!(out(&mut lanes, "a"), [0; 0]);
        lanes.ready(&first, 1);
        assert_eq!(out(&mut lanes, "a"), [1, 2, 3]);
        assert!(lanes.is_clear(&"a"));
    }

    #[test]
    fn a_place_that_is_given_up_and_a_queue_that_is_full_keep_the_order() {
        let mut lanes = Lanes::new();
        let first = lanes.enter("a", None);
        lanes.enter("a", Some(2));
        lanes.enter("a", Some(3));
        lanes.leave(&first);
        let mut room = 1;
        let full = !lanes.drain(&"a", |record| {
            room -= 1;
            (room < 0).then_some(record)
        });
        assert!(full && lanes.stuck() == ["a"]);
        assert_eq!(out(&mut lanes, "a"), [3]);
        assert!(lanes.is_clear(&"a") && lanes.stuck().is_empty());
    }
}
