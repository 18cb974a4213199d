//! What `images` and `inspect` print. Pure.

use cache::StoredImage;
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

#[cfg(test)]
mod tests {
    use super::*;
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
}
