//! What takes how much space (`du`). Pure.

use super::plan::with_needs;
use super::{Item, Pins};

/// One line of usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// What it is.
    pub item: Item,
    /// A running process holds it.
    pub in_use: bool,
    /// An image needs it: its space is shared with the image.
    pub shared: bool,
    /// Garbage collection could take it now.
    pub reclaimable: bool,
}

/// Sums of usage, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Needed by images.
    pub shared: u64,
    /// Not needed by images.
    pub private: u64,
    /// Could be collected now.
    pub reclaimable: u64,
    /// All of it.
    pub total: u64,
}

/// Usage of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Every item, the most recently used first.
    pub rows: Vec<UsageRow>,
    /// The sums.
    pub totals: Totals,
}

/// Sums up `items`.
pub fn usage(items: &[Item], pins: &Pins) -> Usage {
    let by_images = with_needs(items, &pins.images);
    let by_leases = with_needs(items, &pins.leases);
    let mut usage = Usage::default();
    for item in items {
        let (in_use, shared) = (by_leases.contains(&item.id), by_images.contains(&item.id));
        let reclaimable = !in_use && !shared;
        let totals = &mut usage.totals;
        totals.total += item.size;
        *(if shared { &mut totals.shared } else { &mut totals.private }) += item.size;
        totals.reclaimable += if reclaimable { item.size } else { 0 };
        usage.rows.push(UsageRow { item: item.clone(), in_use, shared, reclaimable });
    }
    usage.rows.sort_by(|a, b| (b.item.last_used, &a.item.id).cmp(&(a.item.last_used, &b.item.id)));
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::{ItemId, Kind};
    use oci::Timestamp;

    #[test]
    fn sums() {
        let item = |id: &str, parent: Option<&str>, size, used| Item {
            id: ItemId::Snapshot(id.into()),
            parent: parent.map(str::to_owned),
            uses: None,
            size,
            created: Timestamp::EPOCH,
            last_used: Timestamp::from_seconds(used),
            kind: Kind::Regular,
            description: String::new(),
        };
        let items =
            [item("base", None, 100, 1), item("a", Some("base"), 10, 3), item("b", None, 1, 2)];
        let pins = Pins {
            images: [ItemId::Snapshot("a".into())].into(),
            leases: [ItemId::Snapshot("base".into())].into(),
        };
        let usage = usage(&items, &pins);
        assert_eq!(usage.totals, Totals { shared: 110, private: 1, reclaimable: 1, total: 111 });
        let seen: Vec<_> = usage
            .rows
            .iter()
            .map(|r| (r.item.id.to_string(), r.in_use, r.shared, r.reclaimable))
            .collect();
        assert_eq!(seen[0], ("a".into(), false, true, false));
        assert_eq!(seen[1], ("b".into(), false, false, true));
        assert_eq!(seen[2], ("base".into(), true, true, false));
    }
}
