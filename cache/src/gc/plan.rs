//! Which items go, in which order. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use oci::Timestamp;

use super::filter::{self, Filter, Subject};
use super::{Item, ItemId, Kind, Pins, leaves};

/// What is to be collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Also unpacked layers of base images that no image names any more, logs, and parts of
    /// downloads. Without it they stay, as BuildKit's prune without `--all` keeps its internal records
    /// and frontends (cache/manager.go: `prune`).
    pub all: bool,
    /// Only what was not used since then.
    pub unused_since: Option<Timestamp>,
    /// Only what one of these wants; everything if there are none. What they say about age is
    /// measured from `now`.
    pub filters: Vec<Filter>,
    /// The time that ages are measured from.
    pub now: Timestamp,
    /// Stop as soon as all that is left is at most this many bytes.
    pub keep_bytes: Option<u64>,
    /// What people know it by: what it removed is told to be gone by this. Empty for the
    /// name that follows from the rest.
    pub name: String,
}

/// What goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The items that go: what needs another always before that, else the least recently used
    /// first.
    pub victims: Vec<Item>,
    /// Their size together, in bytes.
    pub freed: u64,
    /// The size of what stays, in bytes.
    pub kept: u64,
}

/// Decides what goes.
///
/// What an image or a lease names stays, with all that it needs. Of the rest, only what nothing
/// needs can go, so each one that goes may make its parent the next.
pub fn plan(items: &[Item], pins: &Pins, request: &Request) -> Plan {
    let pinned = pinned(items, pins);
    leaves::take(
        items,
        |item| !pinned.contains(&item.id) && wanted(item, request),
        |item| Reverse((item.last_used, item.id.clone())),
        |plan| request.keep_bytes.is_some_and(|keep| plan.kept <= keep),
    )
}

/// What stays: everything that is named, and all that it needs.
pub(super) fn pinned(items: &[Item], pins: &Pins) -> BTreeSet<ItemId> {
    let mut all = with_needs(items, &pins.images);
    all.extend(with_needs(items, &pins.leases));
    let state = items.iter().filter(|item| item.kind == Kind::State);
    all.extend(state.map(|item| item.id.clone()));
    all
}

/// `ids` and all that those of them need that are snapshots.
pub(super) fn with_needs(items: &[Item], ids: &BTreeSet<ItemId>) -> BTreeSet<ItemId> {
    let by_id: HashMap<&ItemId, &Item> = items.iter().map(|item| (&item.id, item)).collect();
    let mut all = BTreeSet::new();
    let mut pending: Vec<ItemId> = ids.iter().cloned().collect();
    while let Some(id) = pending.pop() {
        // Stops at what is known already, so a damaged chain that is a circle ends too.
        if all.contains(&id) {
            continue;
        }
        let needs = by_id.get(&id).into_iter().flat_map(|item| item.needs());
        pending.extend(needs.map(|id| ItemId::Snapshot(id.to_owned())));
        all.insert(id);
    }
    all
}

/// Whether a request is about an item that nobody needs.
pub(super) fn wanted(item: &Item, request: &Request) -> bool {
    let old = request.unused_since.is_none_or(|since| item.last_used < since);
    let only_with_all = matches!(item.kind, Kind::Image | Kind::Internal);
    let subject = Subject { item, in_use: false, shared: false, now: request.now };
    old && (request.all || !only_with_all) && filter::any(&request.filters, &subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(id: &str, parent: Option<&str>, size: u64, used: i64) -> Item {
        Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: parent.map(str::to_owned),
            uses: None,
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

    fn linked(id: &str, parent: &str, uses: &str, used: i64) -> Item {
        Item { uses: Some(uses.to_owned()), ..item(id, Some(parent), 1, used) }
    }

    #[test]
    fn a_layer_stays_as_long_as_something_uses_it() {
        let items = [
            item("base", None, 100, 1),
            item("layer", None, 50, 0),
            linked("a", "base", "layer", 5),
            linked("b", "a", "layer", 6),
            item("run", Some("b"), 1, 7),
        ];
        let all = plan(&items, &Pins::default(), &Request::default());
        assert_eq!(ids(&all), ["run", "b", "a", "layer", "base"]);
        let pins = Pins { images: named(&["a"]), ..Pins::default() };
        assert_eq!(ids(&plan(&items, &pins, &Request::default())), ["run", "b"]);
        let old = Request { unused_since: Some(Timestamp::from_seconds(6)), ..Request::default() };
        assert!(plan(&items, &Pins::default(), &old).victims.is_empty());
        let some = Request { keep_bytes: Some(100), ..Request::default() };
        assert_eq!(ids(&plan(&items, &Pins::default(), &some)), ["run", "b", "a", "layer"]);
    }

    #[test]
    fn a_circle_ends() {
        let items = [item("a", Some("b"), 1, 1), item("b", Some("a"), 1, 1)];
        let pins = Pins { images: named(&["a"]), ..Pins::default() };
        assert!(plan(&items, &pins, &Request::default()).victims.is_empty());
        assert!(plan(&items, &Pins::default(), &Request::default()).victims.is_empty());
    }

    proptest! {
        /// Of any forest with any pins, some of it with layers of others: nothing pinned goes,
        /// nothing that what stays needs goes, and what needs something goes before it.
        #[test]
        fn never_breaks_a_chain(
            needs in proptest::collection::vec(
                (proptest::option::of(0usize..20), proptest::option::of(0usize..20)),
                1..20,
            ),
            pins in proptest::collection::btree_set(0usize..20, 0..4),
            keep in proptest::option::of(0u64..40),
        ) {
            let name = |n: usize| format!("s{n}");
            let items: Vec<Item> = needs.iter().enumerate().map(|(n, (parent, uses))| {
                let earlier = |id: Option<usize>| id.filter(|id| *id < n).map(name);
                let parent = earlier(*parent);
                let item = item(&name(n), parent.as_deref(), n as u64, (n as i64 * 7) % 5);
                Item { uses: earlier(*uses), ..item }
            }).collect();
            let leases: BTreeSet<ItemId> = pins.iter().map(|n| ItemId::Snapshot(name(*n))).collect();
            let pins = Pins { leases, ..Pins::default() };
            let request = Request { keep_bytes: keep, ..Request::default() };
            let plan = plan(&items, &pins, &request);
            let order: Vec<&ItemId> = plan.victims.iter().map(|v| &v.id).collect();
            for pin in pinned(&items, &pins) {
                prop_assert!(!order.contains(&&pin));
            }
            for item in &items {
                for needed in item.needs().map(|id| ItemId::Snapshot(id.to_owned())) {
                    if let Some(at) = order.iter().position(|id| **id == needed) {
                        let item = order.iter().position(|id| **id == item.id);
                        prop_assert!(item.is_some_and(|i| i < at));
                    }
                }
            }
            // All of it, unless it is to stop earlier.
            let stays = |item: &Item| pinned(&items, &pins).contains(&item.id);
            let gone = |item: &Item| order.contains(&&item.id);
            prop_assert!(keep.is_some() || items.iter().all(|item| gone(item) != stays(item)));
        }
    }
}
