//! A base image: busybox with a few users, as an OCI layout, the same bytes every time.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use oci::{Descriptor, Digest, ImageIndex, ImageManifest, layout, media_type};
use serde_json::json;
use tar::{EntryType, Header};

use crate::registry_server::{RegistryServer, Seeded};
use crate::temp;

/// Changes when what is made here does.
const VERSION: u32 = 3;
/// Debian's package busybox-static puts the program at one of these places.
const PLACES: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];
const DIRECTORIES: &str = "bin dev etc home home/app proc root sbin sys tmp usr usr/bin usr/sbin \
                           var var/spool var/spool/mail";
/// The image's users.
pub const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          daemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
                          www-data:x:33:33:www-data:/var/www:/bin/false\n\
                          app:x:1000:1001:app:/home/app:/bin/sh\n\
                          nobody:x:65534:65534:nobody:/home:/bin/false\n";
/// The image's groups.
pub const GROUP: &str = "root:x:0:\ndaemon:x:1:\nwww-data:x:33:\nusers:x:100:\nappg:x:1001:\n\
                         extra:x:2000:app\nnobody:x:65534:\n";

/// The image's parts.
pub struct BaseImage {
    /// The compressed layer.
    pub layer: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

impl BaseImage {
    /// The image.
    ///
    /// # Panics
    /// If busybox-static is not installed.
    pub fn get() -> &'static Self {
        static IMAGE: OnceLock<BaseImage> = OnceLock::new();
        IMAGE.get_or_init(Self::make)
    }

    /// The image's manifest as others refer to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::of(media_type::OCI_MANIFEST, &self.manifest)
    }

    /// A directory with the image as an OCI layout, tagged `latest`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn layout() -> &'static Path {
        static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
        LAYOUT.get_or_init(|| {
            let image = Self::get();
            let name = format!("base-{VERSION}-{}", Digest::of(&image.manifest).short());
            let place = temp::root().join(name);
            if !place.exists() {
                let new = temp::directory();
                image.write_layout(new.path());
                // Another test process may have been faster.
                let _ = fs::rename(new.keep(), &place);
            }
            place
        })
    }

    /// Writes the image as an OCI layout into a directory that is there.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_layout(&self, dir: &Path) {
        write_layout(dir, &[&self.layer, &self.config], &self.manifest);
    }

    /// Puts the image into a registry.
    ///
    /// # Panics
    /// If the registry refuses it.
    pub fn push(&self, server: &RegistryServer, repository: &str, tag: &str) -> Seeded {
        server
            .seed(repository, tag, &self.config, &[(media_type::OCI_LAYER_GZIP, &self.layer)])
            .expect("the registry takes the base image")
    }

    fn make() -> Self {
        let tar = root_file_system();
        let mut encoder =
            flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&tar).expect("memory can be written to");
        let layer = encoder.finish().expect("memory can be written to");
        let config = json!({
            "architecture": oci::Platform::host().architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["sh"],
                "Labels": {"from": "busybox"},
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&tar).to_string()]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "busybox-static"}],
        });
        let config = config.to_string().into_bytes();
        let manifest = ImageManifest::new(
            Descriptor::of(media_type::OCI_CONFIG, &config),
            vec![Descriptor::of(media_type::OCI_LAYER_GZIP, &layer)],
        );
        Self { layer, config, manifest: manifest.to_json() }
    }
}

/// Writes blobs and a manifest, tagged `latest`, as an OCI layout.
///
/// # Panics
/// If it cannot be written.
pub fn write_layout(dir: &Path, blobs: &[&Vec<u8>], manifest: &Vec<u8>) {
    let mut descriptor = Descriptor::of(media_type::OCI_MANIFEST, manifest);
    descriptor.annotations.insert(layout::REF_NAME.to_owned(), "latest".to_owned());
    let index = ImageIndex::new(vec![descriptor]).to_json();
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for blob in blobs.iter().copied().chain([manifest]) {
        fs::write(dir.join(layout::blob_path(&Digest::of(blob))), blob).unwrap();
    }
    fs::write(dir.join(layout::OCI_LAYOUT), layout::OCI_LAYOUT_JSON).unwrap();
    fs::write(dir.join(layout::INDEX), index).unwrap();
}

/// A tar in memory whose entries have no times of their own.
pub struct TarBuilder(tar::Builder<Vec<u8>>);

impl Default for TarBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TarBuilder {
    /// An empty one.
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Adds an entry with a raw name, however bad it is.
    pub fn raw(
        mut self,
        name: &str,
        kind: EntryType,
        mode: u32,
        owner: (u64, u64),
        data: &[u8],
        link: &str,
    ) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_mtime(0);
        header.set_size(data.len() as u64);
        let bytes = header.as_ustar_mut().expect("it is one");
        bytes.name[..name.len()].copy_from_slice(name.as_bytes());
        bytes.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).expect("memory can be written to");
        self
    }

    /// Adds a file of root.
    pub fn file(self, name: &str, mode: u32, data: impl AsRef<[u8]>) -> Self {
        self.raw(name, EntryType::Regular, mode, (0, 0), data.as_ref(), "")
    }

    /// Adds a directory of root.
    pub fn dir(self, name: &str, mode: u32) -> Self {
        self.raw(name, EntryType::Directory, mode, (0, 0), b"", "")
    }

    /// Adds a symbolic link of root.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(name, EntryType::Symlink, 0o777, (0, 0), b"", target)
    }

    /// Adds one more name of a file.
    pub fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(name, EntryType::Link, 0o755, (0, 0), b"", target)
    }

    /// The tar.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory can be written to")
    }
}

/// Compresses with gzip, without a time or a name.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("memory can be written to");
    encoder.finish().expect("memory can be written to")
}

/// The program that the image consists of.
///
/// # Panics
/// If it is not installed.
pub fn busybox() -> PathBuf {
    PLACES.iter().map(PathBuf::from).find(|p| p.is_file()).expect(
        "busybox is not there: install the package busybox-static, which the tests' base image \
         is made of",
    )
}

fn root_file_system() -> Vec<u8> {
    let busybox = busybox();
    let list = Command::new(&busybox).arg("--list").output().expect("busybox runs");
    let list = String::from_utf8(list.stdout).expect("applets have plain names");
    let mut applets: Vec<&str> = list.split_whitespace().filter(|a| *a != "busybox").collect();
    applets.sort_unstable();
    applets.dedup();
    let mut tar = TarBuilder::new();
    for name in DIRECTORIES.split_whitespace() {
        let owner = if name == "home/app" { (1000, 1001) } else { (0, 0) };
        let mode = if name == "tmp" { 0o1777 } else { 0o755 };
        tar = tar.raw(&format!("{name}/"), EntryType::Directory, mode, owner, b"", "");
    }
    tar = tar.file("bin/busybox", 0o755, fs::read(busybox).expect("busybox can be read"));
    for applet in applets {
        tar = tar.hard_link(&format!("bin/{applet}"), "bin/busybox");
    }
    tar.file("etc/group", 0o644, GROUP).file("etc/passwd", 0o644, PASSWD).finish()
}
