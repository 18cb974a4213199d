//! Images: found, pulled, unpacked, put together, stored.

mod assemble;
mod blob;
mod handle;
mod layers;
mod layout;
mod load;
mod pull;
#[cfg(test)]
mod pull_tests;
mod resolve;

pub use assemble::{Assembly, HistorySource};
pub use handle::{ImageHandle, ImageLayer, Origin};
pub use layers::ImageLayers;
pub(crate) use layers::{AssembledLayer, Making, compression_of};
pub use layout::{DockerImage, Layout, LayoutError, Member, Wanted};
pub use load::Loaded;
pub use resolve::{ImageRequest, Location, PullPolicy, Resolver};
