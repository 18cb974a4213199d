//! What `du` and `prune` print. Pure.

use cache::gc::tree::{Branch, Group, Node};
use cache::gc::{Item, Report, Totals, Usage, UsageRow};
use oci::{Reference, Timestamp};
use serde_json::{Value, json};

use crate::args::DuFormat;
use crate::progress::text;
use crate::table::{Table, ago};

/// Digits of an id in a tree.
const SHORT: usize = 12;

/// The width of the ids of what is told while it is removed: those of snapshots and blobs fit.
const ID_WIDTH: usize = 72;

/// The output of `du`: a table, a paragraph or a document for each record; for people the sums,
/// too.
pub fn usage(usage: &Usage, format: DuFormat, now: Timestamp) -> String {
    let mut out = String::new();
    match format {
        DuFormat::Json => return usage.rows.iter().map(|row| format!("{}\n", json(row))).collect(),
        DuFormat::Pretty => usage.rows.iter().for_each(|row| out.push_str(&pretty(row, now))),
        DuFormat::Table => {
            let mut table = Table::new(&["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]);
            usage.rows.iter().for_each(|row| table.row(cells(row, now)));
            out.push_str(&table.to_string());
        }
    }
    out.push_str(&totals(&usage.totals));
    out
}

fn cells(row: &UsageRow, now: Timestamp) -> [String; 4] {
    // As in BuildKit: a star is for what is changed in place, and for what images share.
    let star = |starred: bool| if starred { "*" } else { "" };
    [
        format!("{}{}", row.item.id, star(row.item.kind.is_mutable())),
        row.reclaimable.to_string(),
        format!("{}{}", text::bytes(row.item.size), star(row.shared)),
        ago(now.seconds - row.item.last_used.seconds),
    ]
}

fn totals(totals: &Totals) -> String {
    let sums = [
        ("Shared:", totals.shared),
        ("Private:", totals.private),
        ("Reclaimable:", totals.reclaimable),
        ("Total:", totals.total),
    ];
    sums.map(|(name, bytes)| format!("{name:<15}{}\n", text::bytes(bytes))).concat()
}

fn pretty(row: &UsageRow, now: Timestamp) -> String {
    let item = &row.item;
    let parents = parents(item);
    let images: Vec<String> = row.images.iter().map(|name| familiar(name)).collect();
    let lines = [
        ("ID:", item.id.to_string()),
        (if parents.len() > 1 { "Parents:" } else { "Parent:" }, parents.join(", ")),
        ("Created at:", item.created.to_string()),
        ("Mutable:", item.kind.is_mutable().to_string()),
        ("In use:", row.in_use.to_string()),
        ("Reclaimable:", row.reclaimable.to_string()),
        ("Shared:", row.shared.to_string()),
        ("Images:", images.join(", ")),
        ("Size:", text::bytes(item.size)),
        ("Description:", text::clean(&item.description, false)),
        ("Usage count:", row.usage_count.map(|count| count.to_string()).unwrap_or_default()),
        ("Last used:", ago(now.seconds - item.last_used.seconds)),
        ("Type:", item.kind.word().to_owned()),
    ];
    let shown = lines.iter().filter(|(_, value)| !value.is_empty());
    let mut out: String = shown.map(|(name, value)| format!("{name:<15}{value}\n")).collect();
    out.push('\n');
    out
}

fn parents(item: &Item) -> Vec<&str> {
    [&item.parent, &item.uses].into_iter().filter_map(|id| id.as_deref()).collect()
}

fn json(row: &UsageRow) -> Value {
    let item = &row.item;
    json!({
        "ID": item.id.to_string(),
        "Parents": parents(item),
        "CreatedAt": item.created.to_string(),
        "Mutable": item.kind.is_mutable(),
        "InUse": row.in_use,
        "Reclaimable": row.reclaimable,
        "Shared": row.shared,
        "Images": row.images,
        "Size": item.size,
        "Description": item.description,
        "UsageCount": row.usage_count,
        "LastUsedAt": item.last_used.to_string(),
        "Type": item.kind.word(),
    })
}

/// The output of `du --tree`, as text or as a document for each record.
pub fn tree(nodes: &[Node<'_>], sums: &Totals, format: DuFormat) -> String {
    if format == DuFormat::Json {
        return nodes.iter().map(|node| format!("{}\n", node_json(node))).collect();
    }
    let mut out = String::new();
    for group in nodes.chunk_by(|a, b| a.group == b.group) {
        let sum = |counts: &dyn Fn(&UsageRow) -> bool| -> u64 {
            group.iter().filter(|n| counts(n.row)).map(|n| n.row.item.size).sum()
        };
        let (all, free) = (sum(&|_| true), sum(&|row| row.reclaimable));
        let free = match free {
            0 => String::new(),
            free => format!(", {} of it reclaimable", text::bytes(free)),
        };
        let title = group.first().map_or("", |node| node.group.title());
        out.push_str(&format!("{title}: {}{free}\n", text::bytes(all)));
        out.push_str(&group_table(group, format).to_string());
        out.push('\n');
    }
    out.push_str(&totals(sums));
    out
}

fn group_table(group: &[Node<'_>], format: DuFormat) -> Table {
    let snapshots = group.first().is_some_and(|node| node.group == Group::Snapshots);
    let mut table = match snapshots {
        true => Table::new(&["  SIZE", "WITH CHILDREN", "RECLAIMABLE", "RECORD"]),
        false => Table::new(&["  SIZE", "RECLAIMABLE", "RECORD"]),
    };
    for node in group {
        let size = format!("  {}", text::bytes(node.row.item.size));
        let (free, record) = (node.row.reclaimable.to_string(), record(node, format));
        match snapshots {
            true => table.row([size, text::bytes(node.total), free, record]),
            false => table.row([size, free, record]),
        }
    }
    table
}

fn record(node: &Node<'_>, format: DuFormat) -> String {
    let item = &node.row.item;
    let branch = |branch: &Branch| match branch {
        Branch::Passing => "│ ",
        Branch::Empty => "  ",
        Branch::Fork => "├ ",
        Branch::Last => "└ ",
    };
    let mut out: String = node.branches.iter().map(branch).collect();
    let id = item.id.to_string();
    let digits = id.strip_prefix("sha256:").unwrap_or(&id);
    match (format, node.group) {
        (DuFormat::Table, Group::Snapshots | Group::Blobs) => {
            out.extend(digits.chars().take(SHORT));
        }
        _ => out.push_str(&id),
    }
    if !item.description.is_empty() {
        out.push_str(&format!("  {}", item.description));
    }
    if let Some(layer) = &item.uses {
        let short: String = layer.chars().take(SHORT).collect();
        out.push_str(&format!(" (has the layer of {short})"));
    }
    // The document of an image says whose it is.
    if node.group == Group::Snapshots && !node.row.images.is_empty() {
        let names: Vec<String> = node.row.images.iter().map(|name| familiar(name)).collect();
        out.push_str(&format!("  [{}]", names.join(", ")));
    }
    if node.row.in_use {
        out.push_str("  in use");
    }
    out
}

fn node_json(node: &Node<'_>) -> Value {
    let mut value = json(node.row);
    value["Group"] = json!(node.group.title());
    value["Depth"] = json!(node.depth);
    value["SizeWithChildren"] = json!(node.total);
    value["NeededBy"] = json!(node.images);
    value
}

/// A name of an image as people write it.
fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// What is above the records that `prune` removes.
pub fn removed_head() -> String {
    removed_line(["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"].map(str::to_owned))
}

/// A record that was removed.
pub fn removed(item: &Item, verbose: bool, now: Timestamp) -> String {
    let row = UsageRow {
        item: item.clone(),
        in_use: false,
        shared: false,
        reclaimable: true,
        images: Vec::new(),
        usage_count: None,
    };
    match verbose {
        true => pretty(&row, now),
        false => removed_line(cells(&row, now)),
    }
}

/// One line of a table whose other lines are not known yet.
fn removed_line([id, reclaimable, size, used]: [String; 4]) -> String {
    format!("{:<ID_WIDTH$}   {reclaimable:<11}   {size:<10}   {used}\n", text::clean(&id, false))
}

/// The end of the output of `prune`.
pub fn pruned(report: &Report) -> String {
    let images = report.images.iter().map(|image| format!("untagged image {image}\n"));
    let mut out: String = images.collect();
    out.push_str(&format!("Total:\t{}\n", text::bytes(report.freed)));
    out
}

/// The question that `prune` asks. `filter` and `limits` are empty where there are none.
pub fn prune_question(all: bool, filter: &str, limits: bool) -> String {
    let mut out = "This removes ".to_owned();
    out.push_str(match (filter.is_empty(), limits) {
        (true, false) => "everything in the cache that no image and no running build needs",
        (true, true) => "what was used longest ago of the cache, until it is small enough",
        (false, _) => "what this filter wants of the cache: ",
    });
    out.push_str(filter);
    out.push_str(match all {
        true => ", also base images without a name, logs and parts of downloads",
        false => "",
    });
    out.push_str(". Go on? [y/N] ");
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use cache::gc::{ItemId, Kind, Pins};

    fn item(id: &str, parent: Option<&str>, size: u64) -> Item {
        Item {
            id: ItemId::Snapshot(id.to_owned()),
            parent: parent.map(str::to_owned),
            uses: None,
            size,
            created: Timestamp::EPOCH,
            last_used: Timestamp::EPOCH,
            kind: Kind::Regular,
            description: format!("[1/2] RUN {id}"),
        }
    }

    fn sample() -> Usage {
        let mount = ItemId::Mount("m/0".to_owned());
        let description = "cached mount /m".to_owned();
        let items = [
            item("abc", None, 2_000_000),
            item("def", Some("abc"), 1000),
            Item { id: mount, kind: Kind::CacheMount, description, ..item("", None, 5000) },
        ];
        let top = ItemId::Snapshot("abc".to_owned());
        let pins = Pins { images: [top.clone()].into(), ..Pins::default() };
        let names = BTreeMap::from([(top, vec!["docker.io/library/app:1".to_owned()])]);
        cache::gc::usage::usage(&items, &pins, &names)
    }

    #[test]
    fn tables() {
        let now = Timestamp::from_seconds(3);
        assert_eq!(
            usage(&sample(), DuFormat::Table, now),
            "\
ID     RECLAIMABLE   SIZE      LAST ACCESSED
abc    false         2.00MB*   3 seconds ago
m/0*   true          5.00kB    3 seconds ago
def    true          1.00kB    3 seconds ago
Shared:        2.00MB
Private:       6.00kB
Reclaimable:   6.00kB
Total:         2.01MB
"
        );
        let text = usage(&sample(), DuFormat::Pretty, now);
        for part in [
            "Parent:        abc\n",
            "Mutable:       true\n",
            "Description:   [1/2] RUN abc\n",
            "Images:        app:1\n",
            "Last used:     3 seconds ago\n",
            "Type:          exec.cachemount\n\n",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let documents = usage(&sample(), DuFormat::Json, now);
        let last: Value = serde_json::from_str(documents.lines().last().unwrap()).unwrap();
        assert_eq!((&last["Size"], &last["Parents"]), (&json!(1000), &json!(["abc"])));
    }

    #[test]
    fn trees() {
        let usage = sample();
        let nodes = cache::gc::tree::tree(&usage);
        assert_eq!(
            tree(&nodes, &usage.totals, DuFormat::Table),
            "\
Snapshots: 2.00MB, 1.00kB of it reclaimable
  SIZE     WITH CHILDREN   RECLAIMABLE   RECORD
  2.00MB   2.00MB          false         abc  [1/2] RUN abc  [app:1]
  1.00kB   1.00kB          true          └ def  [1/2] RUN def

Cache mounts: 5.00kB, 5.00kB of it reclaimable
  SIZE     RECLAIMABLE   RECORD
  5.00kB   true          m/0  cached mount /m

Shared:        2.00MB
Private:       6.00kB
Reclaimable:   6.00kB
Total:         2.01MB
"
        );
        let documents = tree(&nodes, &usage.totals, DuFormat::Json);
        let first: Value = serde_json::from_str(documents.lines().next().unwrap()).unwrap();
        assert_eq!(first["SizeWithChildren"], json!(2_001_000));
        assert_eq!(first["NeededBy"], json!(["docker.io/library/app:1"]));
    }

    #[test]
    fn what_went() {
        let line = removed(&item("abc", None, 2_000_000), false, Timestamp::from_seconds(3));
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>(),
            ["abc", "true", "2.00MB", "3", "seconds", "ago"]
        );
        assert_eq!(line.find("true"), removed_head().find("RECLAIMABLE"));
        let verbose = removed(&item("abc", None, 1), true, Timestamp::EPOCH);
        assert!(verbose.starts_with("ID:            abc\n"), "{verbose}");
        let report = Report { freed: 2_000_000, ..Report::default() };
        assert_eq!(pruned(&report), "Total:\t2.00MB\n");
        let asked = prune_question(true, "", false);
        assert!(asked.ends_with("logs and parts of downloads. Go on? [y/N] "), "{asked}");
        assert!(prune_question(false, "shared", false).contains("wants of the cache: shared. Go"));
    }
}
