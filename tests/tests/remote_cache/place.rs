//! What the cases have in common: a registry that counts, a project, and a look into a cache.

use std::fs;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest};
use serde_json::Value;
use tests::base_image::BaseImage;
use tests::context::Context;
use tests::drydock::{Drydock, Output, Run};
use tests::proxy::{Access, FaultProxy, Kind};
use tests::registry_server::RegistryServer;

/// Steps of every kind: a stage that only gives files, one that is shown, a linked copy.
pub(crate) const PROJECT: &str = "FROM busybox AS build
WORKDIR /src
COPY src .
RUN --network=none cat one two > /made && echo built
RUN --network=none echo big > /src/big
FROM busybox AS tools
RUN --network=none mkdir -p /tools && echo tool > /tools/t
FROM busybox
RUN --network=none echo first > /first
COPY --from=build /made /app/
RUN --network=none --mount=type=bind,from=tools,source=/tools,target=/t cat /t/t /app/made > /second
COPY --link conf /conf
RUN --network=none chown 5:6 /conf && ln /second /third && rm /first
";

/// The files that it copies.
const FILES: &[(&str, &str)] = &[("src/one", "1\n"), ("src/two", "2\n"), ("conf", "c\n")];

/// A registry, and a proxy in front of it that counts and misbehaves.
pub(crate) struct Place {
    pub(crate) server: RegistryServer,
    pub(crate) proxy: FaultProxy,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(Access::Open)
    }

    pub(crate) fn with(access: Access) -> Self {
        let server = RegistryServer::start().unwrap();
        let proxy = FaultProxy::start(server.address(), access).unwrap();
        Self { server, proxy }
    }

    /// The name of something in the registry.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.proxy.address())
    }

    /// How many blobs were fetched that are larger than manifests' and configs' own: layers.
    pub(crate) fn layers_fetched(&self, cache: &Cache) -> usize {
        let layers: Vec<String> = cache.layers().iter().map(|it| it.digest.to_string()).collect();
        let seen = self.proxy.seen();
        let gets = seen.iter().filter(|it| it.kind == Kind::BlobGet);
        gets.filter(|it| layers.iter().any(|layer| it.target.contains(layer.as_str()))).count()
    }
}

/// A clone of the project, in a directory of its own.
pub(crate) fn clone(dockerfile: &str) -> Context {
    FILES.iter().fold(Context::new(dockerfile), |context, (name, text)| context.file(name, text))
}

pub(crate) fn project() -> Context {
    clone(PROJECT)
}

/// The option that exports to a directory.
pub(crate) fn to_dir(dir: &Path, more: &str) -> String {
    format!("type=local,dest={}{more}", dir.display())
}

/// The option that imports from a directory.
pub(crate) fn from_dir(dir: &Path) -> String {
    format!("type=local,src={}", dir.display())
}

/// A build on a machine that never saw anything, with a cache; and that machine.
pub(crate) fn fresh(context: &Context, from: &str) -> (Drydock, Run) {
    let machine = Drydock::new();
    let run = machine.build(context).args(["--cache-from", from]);
    (machine, run)
}

/// Nothing of the Dockerfile was run, and nothing was complained about.
pub(crate) fn assert_nothing_ran(output: &Output) {
    assert_eq!(output.executed(), Vec::<String>::new(), "{output}");
    assert_no_complaint(output);
}

/// Nothing was complained about but that no output was asked for.
pub(crate) fn assert_no_complaint(output: &Output) {
    let bad = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    let lines: Vec<&str> = output.stderr.lines().filter(bad).collect();
    assert!(lines.iter().all(|line| line.contains("No output specified")), "{output}");
}

/// Makes a cache of the project in a directory, with every step; the machine that made it.
pub(crate) fn cache_of(context: &Context, more: &str) -> (Drydock, Cache) {
    let machine = Drydock::new();
    let dir = machine.place("cache");
    machine.build(context).args(["--cache-to", &to_dir(&dir, more)]).ok();
    (machine, Cache::open(&dir))
}

/// A look into a cache in a directory.
pub(crate) struct Cache {
    pub(crate) dir: PathBuf,
    pub(crate) manifest: Value,
    pub(crate) document: Value,
}

impl Cache {
    pub(crate) fn open(dir: &Path) -> Self {
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        let index = json(&fs::read(dir.join("index.json")).unwrap());
        let read = |value: &Value| {
            let digest: Digest = value["digest"].as_str().unwrap().parse().unwrap();
            let bytes = fs::read(dir.join(oci::layout::blob_path(&digest))).unwrap();
            assert_eq!(Digest::of(&bytes), digest);
            json(&bytes)
        };
        let manifest = read(&index["manifests"][0]);
        let document = read(&manifest["config"]);
        Self { dir: dir.to_owned(), manifest, document }
    }

    /// The one in a registry.
    pub(crate) fn of_registry(place: &Place, repository: &str, tag: &str) -> Self {
        let manifest = place.server.manifest(repository, tag).unwrap().unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let config = manifest["config"]["digest"].as_str().unwrap().parse().unwrap();
        let document = place.server.blob(repository, config).unwrap().unwrap();
        let document = serde_json::from_slice(&document).unwrap();
        Self { dir: PathBuf::new(), manifest, document }
    }

    pub(crate) fn layers(&self) -> Vec<Descriptor> {
        serde_json::from_value(self.manifest["layers"].clone()).unwrap()
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(oci::layout::blob_path(digest))
    }

    /// The position of the layer that has a file of this name.
    pub(crate) fn layer_with(&self, name: &str) -> usize {
        let found = self.layers().iter().position(|layer| {
            let bytes = fs::read(self.path(&layer.digest)).unwrap();
            let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
            let mut entries = archive.entries().unwrap();
            entries.any(|entry| entry.unwrap().path().unwrap().as_ref() == Path::new(name))
        });
        found.unwrap_or_else(|| panic!("no layer has {name}"))
    }

    /// Stores a blob.
    pub(crate) fn put(&self, kind: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(kind, bytes);
        fs::write(self.path(&descriptor.digest), bytes).unwrap();
        descriptor
    }

    /// Writes document, manifest and index anew, as they are now.
    pub(crate) fn rewrite(&mut self) {
        let kind = self.manifest["config"]["mediaType"].as_str().unwrap().to_owned();
        let document = serde_json::to_vec(&self.document).unwrap();
        let config = self.put(&kind, &document);
        self.manifest["config"] = serde_json::to_value(config).unwrap();
        let manifest = serde_json::to_vec(&self.manifest).unwrap();
        let mut named = self.put(oci::media_type::OCI_MANIFEST, &manifest);
        let tag = (oci::layout::REF_NAME.to_owned(), "latest".to_owned());
        named.annotations.extend([tag]);
        let index = oci::ImageIndex::new(vec![named]).to_json();
        fs::write(self.dir.join("index.json"), index).unwrap();
    }
}

/// Puts the base image into a registry, and names it in place of `busybox`.
pub(crate) fn with_base(place: &Place, dockerfile: &str) -> String {
    BaseImage::get().push(&place.server, "base", "1");
    dockerfile.replace("FROM busybox", &format!("FROM {}", place.name("base:1")))
}
