//! What `images`, `inspect`, `du` and `prune` print. Pure.

use std::time::Duration;

use cache::StoredImage;
use cache::gc::{Report, Usage, UsageRow};
use oci::{ImageConfig, Reference, Timestamp};
use serde_json::{Value, json};

use crate::args::ImagesArgs;
use crate::progress::text;
use crate::table::{Table, ago};

/// Digits of an id that are shown.
const SHORT: usize = 12;
/// What stands for a name that is not there, as docker has it.
const NONE: &str = "<none>";

/// The images that `images NAME` means: all, or those of a repository or name. Newest first.
///
/// # Errors
/// If the name is none.
pub fn select(images: Vec<StoredImage>, args: &ImagesArgs) -> Result<Vec<StoredImage>, String> {
    let mut images = images;
    images.sort_by(|a, b| (b.created, &a.reference).cmp(&(a.created, &b.reference)));
    let Some(name) = &args.name else { return Ok(images) };
    let wanted: Reference = name.parse().map_err(|e: oci::ReferenceError| e.to_string())?;
    let last = name.rsplit('/').next().unwrap_or(name);
    let tagged = last.contains([':', '@']);
    images.retain(|image| {
        let Some(reference) = parsed(image) else { return false };
        reference.repository() == wanted.repository()
            && (!tagged || reference.tag() == wanted.tag())
    });
    Ok(images)
}

fn parsed(image: &StoredImage) -> Option<Reference> {
    image.reference.as_deref()?.parse().ok()
}

fn names(image: &StoredImage) -> (String, String) {
    match parsed(image) {
        Some(r) => {
            let tag = r.tag().unwrap_or(NONE).to_owned();
            let familiar = r.without_digest().familiar();
            let name = familiar.rsplit_once(':').map_or(familiar.as_str(), |(name, _)| name);
            (name.to_owned(), tag)
        }
        None => (NONE.to_owned(), NONE.to_owned()),
    }
}

/// The output of `images`.
pub fn images(images: &[StoredImage], args: &ImagesArgs, now: Timestamp) -> String {
    let id = |image: &StoredImage| match args.no_trunc {
        true => image.id().to_string(),
        false => image.id().hex()[..SHORT].to_owned(),
    };
    if args.quiet {
        let mut seen = Vec::new();
        let fresh = |id: &String| {
            !seen.contains(id) && {
                seen.push(id.clone());
                true
            }
        };
        return images.iter().map(id).filter(fresh).map(|id| id + "\n").collect();
    }
    if args.json {
        return images.iter().map(|i| format!("{}\n", image_json(i))).collect();
    }
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in images {
        let (repository, tag) = names(image);
        let age = image.created.map(|t| ago(now.seconds - t.seconds));
        let age = age.unwrap_or_else(|| "N/A".to_owned());
        table.row([repository, tag, id(image), age, text::bytes(image.size)]);
    }
    table.to_string()
}

fn image_json(image: &StoredImage) -> Value {
    let (repository, tag) = names(image);
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": image.id().to_string(),
        "Digest": image.manifest.as_ref().map(|m| m.digest.to_string()),
        "CreatedAt": image.created.map(|t| t.to_string()),
        "Size": image.size,
        "Platform": image.platform.to_string(),
    })
}

/// One image of `inspect`, with the fields of `docker image inspect`. `tags` are all names of
/// the image.
pub fn inspect(image: &StoredImage, tags: &[String], config: &ImageConfig) -> Value {
    let familiar = |t: &String| t.parse::<Reference>().map_or(t.clone(), |r| r.familiar());
    let layers: Vec<String> = image.layers.iter().map(|l| l.diff_id.to_string()).collect();
    json!({
        "Id": image.id().to_string(),
        "RepoTags": tags.iter().map(familiar).collect::<Vec<_>>(),
        "Digest": image.manifest.as_ref().map(|m| m.digest.to_string()),
        "Created": image.created.map(|t| t.to_string()),
        "Author": config.author,
        "Architecture": image.platform.architecture,
        "Variant": image.platform.variant,
        "Os": image.platform.os,
        "Size": image.size,
        "Config": config.config,
        "RootFS": { "Type": "layers", "Layers": layers },
        "History": config.history,
    })
}

/// The output of `du`: a table, or everything about each record; then the sums.
pub fn usage(usage: &Usage, verbose: bool, now: Timestamp) -> String {
    let mut out = String::new();
    if verbose {
        for row in &usage.rows {
            out.push_str(&verbose_row(row));
        }
    } else {
        let mut table = Table::new(&["ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"]);
        for row in &usage.rows {
            let size = text::bytes(row.item.size);
            table.row([
                row.item.id.to_string(),
                row.reclaimable.to_string(),
                // As in BuildKit: a star is for what images share.
                if row.shared { format!("{size}*") } else { size },
                ago(now.seconds - row.item.last_used.seconds),
            ]);
        }
        out.push_str(&table.to_string());
    }
    let totals = usage.totals;
    for (name, bytes) in [
        ("Shared:", totals.shared),
        ("Private:", totals.private),
        ("Reclaimable:", totals.reclaimable),
        ("Total:", totals.total),
    ] {
        out.push_str(&format!("{name:<15}{}\n", text::bytes(bytes)));
    }
    out
}

fn verbose_row(row: &UsageRow) -> String {
    let item = &row.item;
    let lines = [
        ("ID:", item.id.to_string()),
        ("Parent:", item.parent.clone().unwrap_or_default()),
        ("Created at:", item.created.to_string()),
        ("In use:", row.in_use.to_string()),
        ("Reclaimable:", row.reclaimable.to_string()),
        ("Shared:", row.shared.to_string()),
        ("Size:", text::bytes(item.size)),
        ("Description:", text::clean(&item.description, false)),
        ("Last used:", item.last_used.to_string()),
        ("Type:", item.kind.word().to_owned()),
    ];
    let mut out = String::new();
    for (name, value) in lines.iter().filter(|(_, v)| !v.is_empty()) {
        out.push_str(&format!("{name:<15}{value}\n"));
    }
    out.push('\n');
    out
}

/// A line of JSON per record.
pub fn usage_json(usage: &Usage) -> String {
    let row = |row: &UsageRow| {
        let item = &row.item;
        json!({
            "ID": item.id.to_string(),
            "Parent": item.parent,
            "CreatedAt": item.created.to_string(),
            "InUse": row.in_use,
            "Reclaimable": row.reclaimable,
            "Shared": row.shared,
            "Size": item.size,
            "Description": item.description,
            "LastUsedAt": item.last_used.to_string(),
            "Type": item.kind.word(),
        })
    };
    usage.rows.iter().map(|r| format!("{}\n", row(r))).collect()
}

/// The output of `prune`.
pub fn pruned(report: &Report) -> String {
    let mut out = String::new();
    if !report.removed.is_empty() {
        let mut table = Table::new(&["ID", "TYPE", "SIZE"]);
        for item in &report.removed {
            let size = text::bytes(item.size);
            table.row([item.id.to_string(), item.kind.word().to_owned(), size]);
        }
        out.push_str(&table.to_string());
    }
    for image in &report.images {
        out.push_str(&format!("untagged image {image}\n"));
    }
    out.push_str(&format!("Total:\t{}\n", text::bytes(report.freed)));
    out
}

/// The question that `prune` asks.
pub fn prune_question(all: bool, keep: Option<Duration>) -> String {
    let what = match all {
        true => {
            "This removes every cached result that no image needs, and base images that have no name."
        }
        false => "This removes every cached result that no image needs.",
    };
    let keep = keep
        .map(|k| format!(" What was used within {} stays.", humantime::format_duration(k)))
        .unwrap_or_default();
    format!("{what}{keep} Go on? [y/N] ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cache::gc::{Item, ItemId, Kind, Totals};
    use oci::{Descriptor, Platform};

    fn image(reference: Option<&str>, config: &str, created: i64) -> StoredImage {
        StoredImage {
            reference: reference.map(str::to_owned),
            config: Descriptor::of(oci::media_type::OCI_CONFIG, config.as_bytes()),
            snapshot: None,
            layers: Vec::new(),
            source: None,
            manifest: None,
            platform: Platform::new("linux", "amd64", None),
            created: Some(Timestamp::from_seconds(created)),
            size: 1_200_000,
            stored: Timestamp::EPOCH,
        }
    }

    fn args(name: Option<&str>) -> ImagesArgs {
        ImagesArgs { name: name.map(str::to_owned), quiet: false, no_trunc: false, json: false }
    }

    fn store() -> Vec<StoredImage> {
        vec![
            image(Some("docker.io/library/app:1"), "a", 0),
            image(Some("docker.io/library/app:latest"), "a", 0),
            image(Some("localhost:5000/x/y:2"), "b", 50),
            image(None, "c", 100),
        ]
    }

    #[test]
    fn tables() {
        let all = select(store(), &args(None)).unwrap();
        let text = images(&all, &args(None), Timestamp::from_seconds(160));
        let id = |c: &str| oci::Digest::of(c.as_bytes()).short();
        let want = format!(
            "\
REPOSITORY           TAG      IMAGE ID       CREATED         SIZE
<none>               <none>   {}   1 minute ago    1.20MB
localhost:5000/x/y   2        {}   1 minute ago    1.20MB
app                  1        {}   2 minutes ago   1.20MB
app                  latest   {}   2 minutes ago   1.20MB
",
            id("c"),
            id("b"),
            id("a"),
            id("a")
        );
        assert_eq!(text, want);
        let quiet = ImagesArgs { quiet: true, ..args(None) };
        assert_eq!(images(&all, &quiet, Timestamp::EPOCH).lines().count(), 3);
        let json = ImagesArgs { json: true, ..args(None) };
        let text = images(&all, &json, Timestamp::EPOCH);
        let first: Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        assert_eq!((&first["Repository"], &first["Tag"]), (&json!("app"), &json!("1")));
    }

    #[test]
    fn by_name() {
        let count = |name| select(store(), &args(Some(name))).unwrap().len();
        assert_eq!((count("app"), count("app:1"), count("app:3")), (2, 1, 0));
        assert_eq!(count("localhost:5000/x/y"), 1);
        assert!(select(store(), &args(Some("App"))).is_err());
    }

    #[test]
    fn disk_usage() {
        let item = Item {
            id: ItemId::Snapshot("abc".to_owned()),
            parent: None,
            uses: None,
            size: 2_000_000,
            created: Timestamp::EPOCH,
            last_used: Timestamp::EPOCH,
            kind: Kind::Regular,
            description: "[1/2] RUN x".to_owned(),
        };
        let row = UsageRow {
            item: item.clone(),
            in_use: false,
            shared: true,
            reclaimable: false,
            images: Vec::new(),
        };
        let totals = Totals { shared: 2_000_000, private: 0, reclaimable: 0, total: 2_000_000 };
        let all = Usage { rows: vec![row], totals };
        assert_eq!(
            usage(&all, false, Timestamp::from_seconds(3)),
            "\
ID    RECLAIMABLE   SIZE      LAST ACCESSED
abc   false         2.00MB*   3 seconds ago
Shared:        2.00MB
Private:       0B
Reclaimable:   0B
Total:         2.00MB
"
        );
        assert!(usage(&all, true, Timestamp::EPOCH).contains("Description:   [1/2] RUN x\n"));
        let json: Value = serde_json::from_str(&usage_json(&all)).unwrap();
        assert_eq!(json["Size"], 2_000_000);
        let report = Report { removed: vec![item], freed: 2_000_000, ..Report::default() };
        assert!(pruned(&report).ends_with("abc   regular   2.00MB\nTotal:\t2.00MB\n"));
        assert!(
            prune_question(true, Some(Duration::from_secs(86400))).contains("within 1day stays")
        );
    }
}
