//! Which record hangs on which, and what a branch takes together (`du --tree`). Pure.

use std::collections::{BTreeSet, HashMap};

use super::usage::{Usage, UsageRow};
use super::{ItemId, Kind};

/// What is shown together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// Unpacked layers and results of steps, each on the one that it was made on.
    Snapshots,
    /// Compressed layers and documents of images.
    Blobs,
    /// Cache mounts.
    CacheMounts,
    /// Git repositories.
    Repositories,
    /// What is known of build contexts.
    Contexts,
    /// Logs, parts of downloads, and the state directory itself.
    Internal,
}

impl Group {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Snapshots => "Snapshots",
            Self::Blobs => "Compressed layers and documents",
            Self::CacheMounts => "Cache mounts",
            Self::Repositories => "Git repositories",
            Self::Contexts => "Build contexts",
            Self::Internal => "Internal",
        }
    }

    fn of(row: &UsageRow) -> Self {
        match (&row.item.id, row.item.kind) {
            (ItemId::Snapshot(_), _) => Self::Snapshots,
            (ItemId::Blob(_), _) => Self::Blobs,
            (ItemId::Mount(_), _) | (_, Kind::CacheMount) => Self::CacheMounts,
            (ItemId::Repository(_), _) | (_, Kind::Git) => Self::Repositories,
            (_, Kind::Local) => Self::Contexts,
            _ => Self::Internal,
        }
    }
}

/// One record in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    /// The record.
    pub row: &'a UsageRow,
    /// What it is shown with.
    pub group: Group,
    /// How many records it hangs on.
    pub depth: usize,
    /// Its size and that of all that hangs on it, in bytes.
    pub total: u64,
    /// What is drawn before it: whether each fork above goes on below it, and then this one.
    pub branches: Vec<Branch>,
    /// The images that need it.
    pub images: BTreeSet<&'a str>,
}

/// A piece of the lines of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// More comes below at this fork, but not this.
    Passing,
    /// Nothing more at this fork.
    Empty,
    /// One of several, more follow.
    Fork,
    /// The last one of several, or the only one.
    Last,
}

/// The tree of `usage`: groups one after the other, in each of them parents before children, the
/// largest branch first. What is alone on its parent is drawn below it without another level.
pub fn tree(usage: &Usage) -> Vec<Node<'_>> {
    let rows = &usage.rows;
    let at: HashMap<String, usize> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| matches!(row.item.id, ItemId::Snapshot(_)))
        .map(|(at, row)| (row.item.id.to_string(), at))
        .collect();
    let parent =
        |row: &UsageRow| row.item.parent.as_ref().and_then(|parent| at.get(parent)).copied();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    let mut roots = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        match parent(row) {
            Some(parent) => children[parent].push(at),
            None => roots.push(at),
        }
    }
    let order = below(&roots, &children);
    let mut totals: Vec<u64> = rows.iter().map(|row| row.item.size).collect();
    let mut images: Vec<BTreeSet<&str>> =
        rows.iter().map(|row| row.images.iter().map(String::as_str).collect()).collect();
    // Children are behind their parents in the order, so from its end all are summed up.
    for &at in order.iter().rev() {
        if let Some(parent) = parent(&rows[at]) {
            totals[parent] += totals[at];
            let own = images[at].clone();
            images[parent].extend(own);
        }
    }
    let largest_first = |list: &mut Vec<usize>| {
        list.sort_by_key(|&at| (std::cmp::Reverse(totals[at]), &rows[at].item.id));
    };
    children.iter_mut().for_each(largest_first);
    roots.sort_by_key(|&at| {
        (Group::of(&rows[at]), std::cmp::Reverse(totals[at]), &rows[at].item.id)
    });
    draw(rows, &roots, &children, &totals, &mut images)
}

/// All that hangs on `roots`, parents before children.
fn below(roots: &[usize], children: &[Vec<usize>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut pending = roots.to_vec();
    while let Some(at) = pending.pop() {
        order.push(at);
        pending.extend(&children[at]);
    }
    order
}

fn draw<'a>(
    rows: &'a [UsageRow],
    roots: &[usize],
    children: &[Vec<usize>],
    totals: &[u64],
    images: &mut [BTreeSet<&'a str>],
) -> Vec<Node<'a>> {
    let mut nodes = Vec::new();
    // With the depth, and what is drawn before it.
    let mut pending: Vec<(usize, usize, Vec<Branch>)> =
        roots.iter().rev().map(|&at| (at, 0, Vec::new())).collect();
    while let Some((at, depth, branches)) = pending.pop() {
        let passed = |branches: &[Branch]| -> Vec<Branch> {
            let pass = |branch: &Branch| match branch {
                Branch::Fork | Branch::Passing => Branch::Passing,
                Branch::Last | Branch::Empty => Branch::Empty,
            };
            branches.iter().map(pass).collect()
        };
        let count = children[at].len();
        for (n, &child) in children[at].iter().enumerate().rev() {
            let mut before = passed(&branches);
            // A chain stays in one column.
            if count == 1 && matches!(before.last(), Some(Branch::Empty)) {
                before.pop();
            }
            before.push(if n + 1 < count { Branch::Fork } else { Branch::Last });
            pending.push((child, depth + 1, before));
        }
        nodes.push(Node {
            row: &rows[at],
            group: Group::of(&rows[at]),
            depth,
            total: totals[at],
            branches,
            images: std::mem::take(&mut images[at]),
        });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gc::{Item, Pins, usage};
    use oci::Timestamp;

    fn item(id: &str, parent: Option<&str>, size: u64) -> Item {
        Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: parent.map(str::to_owned),
            uses: None,
            size,
            created: Timestamp::EPOCH,
            last_used: Timestamp::EPOCH,
            kind: Kind::Regular,
            description: String::new(),
        }
    }

    fn drawn(items: &[Item], names: &[(&str, &str)]) -> Vec<String> {
        let named = |(id, name): &(&str, &str)| {
            (ItemId::Snapshot((*id).to_owned()), vec![(*name).to_owned()])
        };
        let usage = usage::usage(items, &Pins::default(), &names.iter().map(named).collect());
        let line = |node: &Node<'_>| {
            let branch = |branch: &Branch| match branch {
                Branch::Passing => "│ ",
                Branch::Empty => "  ",
                Branch::Fork => "├ ",
                Branch::Last => "└ ",
            };
            let lines: String = node.branches.iter().map(branch).collect();
            let images: Vec<&str> = node.images.iter().copied().collect();
            format!("{lines}{} {} {}", node.row.item.id, node.total, images.join(","))
        };
        tree(&usage).iter().map(line).collect()
    }

    #[test]
    fn chains_stay_in_a_column_and_forks_indent() {
        let items = [
            item("base", None, 100),
            item("a", Some("base"), 10),
            item("b", Some("a"), 1),
            item("c", Some("b"), 1),
            item("d", Some("base"), 50),
            item("e", Some("d"), 5),
            item("f", Some("d"), 4),
            item("other", None, 7),
            item("last", Some("other"), 1),
            item("end", Some("last"), 1),
            Item { id: ItemId::Mount("m/0".into()), kind: Kind::CacheMount, ..item("", None, 999) },
        ];
        let names = [("c", "app:1"), ("e", "app:2"), ("base", "base:1")];
        assert_eq!(
            drawn(&items, &names),
            [
                "base 171 app:1,app:2,base:1",
                "├ d 59 app:2",
                "│ ├ e 5 app:2",
                "│ └ f 4 ",
                "└ a 12 app:1",
                "└ b 2 app:1",
                "└ c 1 app:1",
                "other 9 ",
                "└ last 2 ",
                "└ end 1 ",
                "m/0 999 ",
            ]
        );
    }

    #[test]
    fn what_is_damaged_or_filtered_out_ends() {
        let circle = [item("a", Some("b"), 1), item("b", Some("a"), 1)];
        assert!(drawn(&circle, &[]).is_empty());
        assert_eq!(drawn(&[item("a", Some("gone"), 1)], &[]), ["a 1 "]);
        let deep: Vec<Item> = (0..5000)
            .map(|n: u32| {
                let parent = n.checked_sub(1).map(|n| n.to_string());
                item(&n.to_string(), parent.as_deref(), 1)
            })
            .collect();
        let lines = drawn(&deep, &[]);
        assert_eq!((lines.len(), lines[0].as_str()), (5000, "0 5000 "));
        assert_eq!(lines[4999], "└ 4999 1 ");
    }
}
