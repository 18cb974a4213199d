//! Which items go, in which order. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};

use oci::Timestamp;

use super::{Item, ItemId, Kind, Pins};

/// What is to be collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Also unpacked layers of base images that no image names any more. Without it they stay,
    /// as BuildKit's prune without `--all` keeps images.
    pub all: bool,
    /// Only what was not used since then.
    pub unused_since: Option<Timestamp>,
    /// Only these kinds; all of them if there are none.
    pub kinds: Vec<Kind>,
    /// Stop as soon as all that is left is at most this many bytes.
    pub keep_bytes: Option<u64>,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The items that go: a child always before its parent, else the least recently used first.
    pub victims: Vec<Item>,
    /// Their size together, in bytes.
    pub freed: u64,
    /// The size of what stays, in bytes.
    pub kept: u64,
}

/// Decides what goes.
///
/// What an image or a lease names stays, with all its parents. Of the rest, only items without
/// children can go, so each one that goes may make its parent the next.
pub fn plan(items: &[Item], pins: &Pins, request: &Request) -> Plan {
    let total: u64 = items.iter().map(|i| i.size).sum();
    let pinned = pinned(items, pins);
    let by_id: HashMap<&str, usize> = items.iter().enumerate().filter_map(snapshot_id).collect();
    let mut children = vec![0usize; items.len()];
    for item in items {
        if let Some(&parent) = item.parent.as_deref().and_then(|p| by_id.get(p)) {
            children[parent] += 1;
        }
    }
    let may_go = |at: usize| !pinned.contains(&items[at].id) && wanted(&items[at], request);
    let entry = |at: usize| Reverse((items[at].last_used, items[at].id.clone(), at));
    let mut leaves: BinaryHeap<_> =
        (0..items.len()).filter(|&at| children[at] == 0 && may_go(at)).map(entry).collect();
    let mut plan = Plan { kept: total, ..Plan::default() };
    while let Some(Reverse((_, _, at))) = leaves.pop() {
        if request.keep_bytes.is_some_and(|keep| plan.kept <= keep) {
            break;
        }
        let item = &items[at];
        plan.freed += item.size;
        plan.kept -= item.size;
        plan.victims.push(item.clone());
        if let Some(&parent) = item.parent.as_deref().and_then(|p| by_id.get(p)) {
            children[parent] -= 1;
            if children[parent] == 0 && may_go(parent) {
                leaves.push(entry(parent));
            }
        }
    }
    plan
}

/// What stays: everything that is named, and its parents.
pub(super) fn pinned(items: &[Item], pins: &Pins) -> BTreeSet<ItemId> {
    let mut all = with_parents(items, &pins.images);
    all.extend(with_parents(items, &pins.leases));
    all
}

/// `ids` and the parents of those that are snapshots.
pub(super) fn with_parents(items: &[Item], ids: &BTreeSet<ItemId>) -> BTreeSet<ItemId> {
    let parents: HashMap<&ItemId, &str> =
        items.iter().filter_map(|i| Some((&i.id, i.parent.as_deref()?))).collect();
    let mut all = BTreeSet::new();
    for id in ids {
        let mut next = Some(id.clone());
        // Stops at what is known already, so a damaged chain that is a circle ends too.
        while let Some(id) = next.filter(|id| !all.contains(id)) {
            next = parents.get(&id).map(|p| ItemId::Snapshot((*p).to_owned()));
            all.insert(id);
        }
    }
    all
}

fn wanted(item: &Item, request: &Request) -> bool {
    let old = request.unused_since.is_none_or(|since| item.last_used < since);
    let of_kind = request.kinds.is_empty() || request.kinds.contains(&item.kind);
    old && of_kind && (request.all || item.kind != Kind::Image)
}

fn snapshot_id((at, item): (usize, &Item)) -> Option<(&str, usize)> {
    match &item.id {
        ItemId::Snapshot(id) => Some((id, at)),
        ItemId::Blob(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(id: &str, parent: Option<&str>, size: u64, used: i64) -> Item {
        Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: parent.map(str::to_owned),
            size,
            created: Timestamp::EPOCH,
            last_used: Timestamp::from_seconds(used),
            kind: Kind::Regular,
            description: String::new(),
        }
    }

    fn ids(plan: &Plan) -> Vec<String> {
        plan.victims.iter().map(|v| v.id.to_string()).collect()
    }

    fn named(names: &[&str]) -> BTreeSet<ItemId> {
        names.iter().map(|n| ItemId::Snapshot((*n).to_owned())).collect()
    }

    #[test]
    fn children_go_before_parents_and_old_before_new() {
        let items = [
            item("base", None, 100, 1),
            item("old", Some("base"), 10, 2),
            item("new", Some("base"), 20, 9),
            item("leaf", Some("old"), 1, 5),
        ];
        let all = plan(&items, &Pins::default(), &Request::default());
        assert_eq!(ids(&all), ["leaf", "old", "new", "base"]);
        assert_eq!((all.freed, all.kept), (131, 0));
        let some = Request { keep_bytes: Some(125), ..Request::default() };
        assert_eq!(ids(&plan(&items, &Pins::default(), &some)), ["leaf", "old"]);
    }

    #[test]
    fn images_and_leases_pin_their_chains() {
        let items = [
            item("base", None, 1, 0),
            item("a", Some("base"), 1, 0),
            item("b", Some("base"), 1, 0),
            item("c", Some("b"), 1, 0),
        ];
        let pins = Pins { images: named(&["a"]), leases: named(&["b"]) };
        assert_eq!(ids(&plan(&items, &pins, &Request::default())), ["c"]);
    }

    #[test]
    fn a_kept_child_keeps_its_parent() {
        let items = [item("base", None, 1, 1), item("young", Some("base"), 1, 100)];
        let since = Some(Timestamp::from_seconds(50));
        let request = Request { unused_since: since, ..Request::default() };
        assert!(plan(&items, &Pins::default(), &request).victims.is_empty());
    }

    #[test]
    fn base_images_stay_unless_all() {
        let items = [Item { kind: Kind::Image, ..item("base", None, 1, 1) }];
        assert!(plan(&items, &Pins::default(), &Request::default()).victims.is_empty());
        let all = Request { all: true, ..Request::default() };
        assert_eq!(ids(&plan(&items, &Pins::default(), &all)), ["base"]);
    }

    #[test]
    fn a_circle_ends() {
        let items = [item("a", Some("b"), 1, 1), item("b", Some("a"), 1, 1)];
        let pins = Pins { images: named(&["a"]), ..Pins::default() };
        assert!(plan(&items, &pins, &Request::default()).victims.is_empty());
        assert!(plan(&items, &Pins::default(), &Request::default()).victims.is_empty());
    }

    proptest! {
        /// Of any forest with any pins: nothing pinned goes, no parent of what stays goes, and
        /// children go first.
        #[test]
        fn never_breaks_a_chain(
            parents in proptest::collection::vec(proptest::option::of(0usize..20), 1..20),
            pins in proptest::collection::btree_set(0usize..20, 0..4),
            keep in proptest::option::of(0u64..40),
        ) {
            let name = |n: usize| format!("s{n}");
            let items: Vec<Item> = parents.iter().enumerate().map(|(n, parent)| {
                let parent = parent.filter(|p| *p < n).map(name);
                item(&name(n), parent.as_deref(), n as u64, (n as i64 * 7) % 5)
            }).collect();
            let leases: BTreeSet<ItemId> = pins.iter().map(|n| ItemId::Snapshot(name(*n))).collect();
            let pins = Pins { leases, ..Pins::default() };
            let request = Request { keep_bytes: keep, ..Request::default() };
            let plan = plan(&items, &pins, &request);
            let order: Vec<&ItemId> = plan.victims.iter().map(|v| &v.id).collect();
            for pin in pinned(&items, &pins) {
                prop_assert!(!order.contains(&&pin));
            }
            for child in &items {
                let Some(parent) = child.parent.clone().map(ItemId::Snapshot) else { continue };
                if let Some(at) = order.iter().position(|id| **id == parent) {
                    let child = order.iter().position(|id| **id == child.id);
                    prop_assert!(child.is_some_and(|c| c < at));
                }
            }
        }
    }
}
