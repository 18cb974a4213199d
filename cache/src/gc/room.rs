//! Which items go when room is needed: those that are worth least for the bytes that they take.
//! Pure.

use std::cmp::Ordering;
use std::collections::HashMap;

use oci::Timestamp;

use super::plan::{Plan, pinned};
use super::{Item, ItemId, Kind, Pins, leaves};

/// What comes from elsewhere is fetched again at this many bytes a second (a fast home line;
/// slower ones make fetched things dearer, and all of them alike).
const FETCHED_PER_SECOND: f64 = 10e6;

/// What is compressed again, at this many (gzip of level 5 on one core, less what it waits for).
const COMPRESSED_PER_SECOND: f64 = 60e6;

/// What any fetching costs before the first byte, in seconds.
const FETCH_START: f64 = 1.0;

/// What any step costs beside its own time, in seconds: its sandbox, its commit.
const STEP_START: f64 = 0.01;

/// Ages below this are alike, in seconds: within one spell of work all is of use again.
const SESSION: f64 = 3600.0;

/// What is known of an item beside what it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worth {
    /// How long making it took, in seconds, where that is known.
    pub seconds: Option<f64>,
    /// How often it was of use.
    pub uses: u64,
}

/// Worth of items; what is not in it is unknown.
pub type Worths = HashMap<ItemId, Worth>;

/// Decides what goes so that `need` bytes come free: of what neither an image nor a lease needs,
/// and nothing else needs either, always that which is worth least for each byte. Each one that
/// goes may make what it was made on the next. If all of it is not enough, all of it goes.
pub fn plan_room(items: &[Item], pins: &Pins, worths: &Worths, now: Timestamp, need: u64) -> Plan {
    let pinned = pinned(items, pins);
    let rank = |item: &Item| {
        let worth = worths.get(&item.id).copied().unwrap_or_default();
        Rank { value: value(item, worth, now), last_used: item.last_used, id: item.id.clone() }
    };
    leaves::take(items, |item| !pinned.contains(&item.id), rank, |plan| plan.freed >= need)
}

/// What losing an item costs for each byte that it takes: the seconds to make it again, times how
/// likely that is.
fn value(item: &Item, worth: Worth, now: Timestamp) -> f64 {
    seconds(item, worth) * likelihood(item, worth, now) / (item.size.max(1) as f64)
}

/// The seconds to make it again.
fn seconds(item: &Item, worth: Worth) -> f64 {
    let size = item.size as f64;
    let fetched = FETCH_START + size / FETCHED_PER_SECOND;
    match item.kind {
        Kind::Regular => STEP_START + worth.seconds.unwrap_or(0.0).max(0.0),
        // What a mount holds is mostly downloads and objects that took about as long.
        Kind::Image | Kind::Local | Kind::Git | Kind::CacheMount => fetched,
        // Logs are worth as much to people.
        Kind::Blob | Kind::Internal | Kind::State => STEP_START + size / COMPRESSED_PER_SECOND,
    }
}

/// How likely it is of use again, for comparison only: what was used often in a short time will be
/// (uses for each unit of its age), and the age counts from the last use.
fn likelihood(item: &Item, worth: Worth, now: Timestamp) -> f64 {
    let age = now.seconds.saturating_sub(item.last_used.seconds).max(0) as f64;
    (1.0 + (worth.uses as f64).ln_1p()) * SESSION / (SESSION + age)
}

/// How soon an item goes. The greatest is first: that of the least value, of equals the one that was
/// used longest ago.
struct Rank {
    value: f64,
    last_used: Timestamp,
    id: ItemId,
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .value
            .total_cmp(&self.value)
            .then_with(|| (other.last_used, &other.id).cmp(&(self.last_used, &self.id)))
    }
}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Rank {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp { seconds: 1_000_000, nanos: 0 };

    fn item(id: &str, parent: Option<&str>, size: u64, age: i64) -> Item {
        Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: parent.map(str::to_owned),
            uses: None,
            size,
            created: Timestamp::EPOCH,
            last_used: Timestamp { seconds: NOW.seconds - age, nanos: 0 },
            kind: Kind::Regular,
            description: String::new(),
        }
    }

    fn worths(list: &[(&str, f64, u64)]) -> Worths {
        let worth = |&(id, seconds, uses): &(&str, f64, u64)| {
            (ItemId::Snapshot(id.to_owned()), Worth { seconds: Some(seconds), uses })
        };
        list.iter().map(worth).collect()
    }

    fn ids(plan: &Plan) -> Vec<String> {
        plan.victims.iter().map(|v| v.id.to_string()).collect()
    }

    #[test]
    fn the_least_worth_for_its_bytes_goes_first() {
        let items = [
            item("dear", None, 100, 0),
            item("cheap", None, 100, 0),
            item("large", None, 10_000, 0),
            item("old", None, 100, 40 * 3600),
        ];
        let worths =
            worths(&[("dear", 600.0, 1), ("cheap", 1.0, 1), ("large", 60.0, 1), ("old", 600.0, 1)]);
        let all = plan_room(&items, &Pins::default(), &worths, NOW, u64::MAX);
        assert_eq!(ids(&all), ["large", "cheap", "old", "dear"]);
        let some = plan_room(&items, &Pins::default(), &worths, NOW, 10_001);
        assert_eq!(
            (ids(&some), some.freed, some.kept),
            (vec!["large".into(), "cheap".into()], 10_100, 200)
        );
        assert!(plan_room(&items, &Pins::default(), &worths, NOW, 0).victims.is_empty());
    }

    #[test]
    fn use_makes_likely() {
        let items = [item("often", None, 100, 7200), item("once", None, 100, 7000)];
        let worths = worths(&[("often", 10.0, 50), ("once", 10.0, 1)]);
        let plan = plan_room(&items, &Pins::default(), &worths, NOW, 1);
        assert_eq!(ids(&plan), ["once"]);
    }

    #[test]
    fn a_dear_child_keeps_a_cheap_parent() {
        let items = [
            item("base", None, 100, 0),
            item("dear", Some("base"), 100, 0),
            item("other", None, 100, 0),
        ];
        let worths = worths(&[("base", 0.0, 0), ("dear", 900.0, 9), ("other", 5.0, 0)]);
        let plan = plan_room(&items, &Pins::default(), &worths, NOW, 150);
        assert_eq!(ids(&plan), ["other", "dear"]);
    }

    #[test]
    fn what_is_compressed_again_is_cheaper_than_what_is_fetched() {
        let blob = Item { kind: Kind::Blob, ..item("blob", None, 50_000_000, 0) };
        let image = Item { kind: Kind::Image, ..item("image", None, 50_000_000, 0) };
        let plan = plan_room(&[image, blob], &Pins::default(), &Worths::new(), NOW, 1);
        assert_eq!(ids(&plan), ["blob"]);
    }

    proptest! {
        /// Of any forest with any pins and worths: what is needed comes free if it can; nothing
        /// pinned goes, and nothing that something which stays needs; children go before parents;
        /// and no more goes than is needed.
        #[test]
        fn enough_and_never_what_is_needed(
            shape in proptest::collection::vec(
                (
                    proptest::option::of(0usize..24),
                    proptest::option::of(0usize..24),
                    0u64..1000,
                    0i64..100_000,
                    0f64..1000.0,
                    0u64..20,
                ),
                1..24,
            ),
            leases in proptest::collection::btree_set(0usize..24, 0..4),
            images in proptest::collection::btree_set(0usize..24, 0..4),
            need in 0u64..20_000,
        ) {
            let name = |n: usize| format!("s{n}");
            let mut items = Vec::new();
            let mut worths = Worths::new();
            for (n, (parent, uses, size, age, seconds, count)) in shape.iter().enumerate() {
                let earlier = |id: Option<usize>| id.filter(|id| *id < n).map(name);
                let item = item(&name(n), earlier(*parent).as_deref(), *size, *age);
                let item = Item { uses: earlier(*uses), ..item };
                let worth = Worth { seconds: Some(*seconds), uses: *count };
                worths.insert(item.id.clone(), worth);
                items.push(item);
            }
            let set = |ns: &BTreeSet<usize>| -> BTreeSet<ItemId> {
                ns.iter().map(|n| ItemId::Snapshot(name(*n))).collect()
            };
            let pins = Pins { images: set(&images), leases: set(&leases) };
            let plan = plan_room(&items, &pins, &worths, NOW, need);
            let pinned = pinned(&items, &pins);
            let order: Vec<&ItemId> = plan.victims.iter().map(|v| &v.id).collect();
            prop_assert!(pinned.iter().all(|pin| !order.contains(&pin)));
            for item in &items {
                for needed in item.needs().map(|id| ItemId::Snapshot(id.to_owned())) {
                    if let Some(at) = order.iter().position(|id| **id == needed) {
                        let child = order.iter().position(|id| **id == item.id);
                        prop_assert!(child.is_some_and(|child| child < at));
                    }
                }
            }
            let free = items.iter().filter(|i| !pinned.contains(&i.id)).map(|i| i.size).sum();
            let last = plan.victims.last().map_or(0, |v| v.size);
            prop_assert!(plan.freed >= need.min(free));
            prop_assert!(plan.victims.is_empty() || plan.freed - last < need);
            let total: u64 = items.iter().map(|i| i.size).sum();
            prop_assert_eq!(plan.freed + plan.kept, total);
        }
    }
}
