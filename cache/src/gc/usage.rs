//! What takes how much space (`du`).

use std::collections::BTreeMap;

use oci::Timestamp;

use super::filter::{Filter, Subject};
use super::inventory::image_name;
use super::plan::{self, Request, with_needs};
use super::{Collector, Item, ItemId, Kind, Pins};
use crate::error::CacheError;
use crate::state::State;

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
    /// The images whose topmost layer it is, or whose document.
    pub images: Vec<String>,
    /// How often it was of use, where that is counted.
    pub usage_count: Option<u64>,
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
    /// Every item, the largest first.
    pub rows: Vec<UsageRow>,
    /// The sums.
    pub totals: Totals,
}

impl State {
    /// What takes how much space. Nobody is kept from anything meanwhile: what comes or goes may be missing.
    ///
    /// # Errors
    /// If the state directory, or the caller's part of it, cannot be read.
    pub fn usage(&self, collector: &mut dyn Collector) -> Result<Usage, CacheError> {
        let items = self.items(collector)?;
        let leases = self.leased()?;
        let garbage = self.nameless(&Request::default())?;
        let pins = Pins { images: self.named(&garbage)?, leases };
        let mut names: BTreeMap<ItemId, Vec<String>> = BTreeMap::new();
        let images = self.images().list()?.into_iter().chain(self.images().remembered()?);
        for image in images {
            let layer = || image.layers.iter().rev().find_map(|layer| layer.snapshot.as_ref());
            let top = image.snapshot.as_ref().or_else(layer).cloned().map(ItemId::Snapshot);
            let documents = [Some(&image.config), image.manifest.as_ref()];
            let documents = documents.into_iter().flatten().map(|d| ItemId::Blob(d.digest));
            for id in top.into_iter().chain(documents) {
                let names = names.entry(id).or_default();
                let name = image_name(&image);
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let mut usage = usage(&items, &pins, &names);
        for row in &mut usage.rows {
            if let ItemId::Snapshot(id) = &row.item.id {
                row.usage_count = Some(self.last_used().count(id));
            }
        }
        Ok(usage)
    }
}

impl Usage {
    /// What of it a filter wants, with sums of that.
    #[must_use]
    pub fn filtered(self, filter: &Filter, now: Timestamp) -> Self {
        let wanted = |row: &UsageRow| {
            let UsageRow { item, in_use, shared, .. } = row;
            filter.matches(&Subject { item, in_use: *in_use, shared: *shared, now })
        };
        Self::of(self.rows.into_iter().filter(wanted).collect())
    }

    fn of(mut rows: Vec<UsageRow>) -> Self {
        rows.sort_by(|a, b| (b.item.size, &a.item.id).cmp(&(a.item.size, &b.item.id)));
        let sum = |counts: &dyn Fn(&UsageRow) -> bool| {
            rows.iter().filter(|row| counts(row)).map(|row| row.item.size).sum()
        };
        let totals = Totals {
            shared: sum(&|row| row.shared),
            private: sum(&|row| !row.shared),
            reclaimable: sum(&|row| row.reclaimable),
            total: sum(&|_| true),
        };
        Self { rows, totals }
    }
}

/// Sums up `items`. Pure.
pub fn usage(items: &[Item], pins: &Pins, images: &BTreeMap<ItemId, Vec<String>>) -> Usage {
    let by_images = with_needs(items, &pins.images);
    let by_leases = with_needs(items, &pins.leases);
    let everything = Request { all: true, ..Request::default() };
    let row = |item: &Item| {
        let (in_use, shared) = (by_leases.contains(&item.id), by_images.contains(&item.id));
        let free = item.kind != Kind::State && plan::wanted(item, &everything);
        UsageRow {
            reclaimable: !in_use && !shared && free,
            images: images.get(&item.id).cloned().unwrap_or_default(),
            usage_count: None,
            item: item.clone(),
            in_use,
            shared,
        }
    };
    Usage::of(items.iter().map(row).collect())
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
        let names = [(ItemId::Snapshot("a".into()), vec!["app".to_owned()])].into();
        let usage = usage(&items, &pins, &names);
        assert_eq!(usage.totals, Totals { shared: 110, private: 1, reclaimable: 1, total: 111 });
        let seen: Vec<_> = usage
            .rows
            .iter()
            .map(|r| (r.item.id.to_string(), r.in_use, r.shared, r.reclaimable))
            .collect();
        assert_eq!(seen[0], ("base".into(), true, true, false));
        assert_eq!(seen[1], ("a".into(), false, true, false));
        assert_eq!(seen[2], ("b".into(), false, false, true));
        assert_eq!(usage.rows[1].images, ["app"]);
        let filter = Filter::parse("private").unwrap();
        let private = usage.filtered(&filter, Timestamp::EPOCH);
        assert_eq!((private.rows.len(), private.totals.total), (1, 1));
    }
}
