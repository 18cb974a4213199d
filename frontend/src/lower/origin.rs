//! Where the files of a COPY, an ADD or a mount come from.

use graph::{FileOp, Op, SourceOp, Span, Unpack, Vertex, VertexIndex, VertexMeta};

use super::base::{Base, Remote};
use super::plan::FromTarget;
use super::stage::{Lowering, StageLowering};

/// A result that files are taken from; none for an empty root file system.
pub(super) struct Origin {
    pub(super) vertex: Option<VertexIndex>,
    /// Whether it is a directory of this machine.
    pub(super) context: bool,
}

impl Origin {
    fn result(vertex: Option<VertexIndex>) -> Self {
        Self { vertex, context: false }
    }

    fn context(vertex: VertexIndex) -> Self {
        Self { vertex: Some(vertex), context: true }
    }
}

impl StageLowering<'_, '_> {
    /// What the `--from` or `from=` at `from` means; the main context where there is none.
    pub(super) fn origin(&mut self, from: Option<Span>) -> Origin {
        let plan = self.all.plan;
        let Some(span) = from else { return Origin::context(self.all.local("", true)) };
        match plan.stages[self.at].froms.get(&(self.trigger, span)) {
            // It could not be resolved; then there was an error, and nothing is built.
            None => Origin::result(None),
            Some(FromTarget::Stage(stage) | FromTarget::Base(Base::Stage(stage))) => {
                Origin::result(self.all.done[*stage].as_ref().and_then(|state| state.root))
            }
            Some(FromTarget::Base(Base::Scratch)) => Origin::result(None),
            Some(FromTarget::Base(Base::Image(image))) => {
                let meta = self.meta(format!("FROM {}", image.name), span);
                Origin::result(self.all.image(image, meta))
            }
            Some(FromTarget::Base(Base::Local(name))) => {
                Origin::context(self.all.local(name, false))
            }
            Some(FromTarget::Base(Base::Remote(remote))) => {
                Origin::result(Some(self.all.remote(remote)))
            }
        }
    }
}

impl Lowering<'_> {
    /// The vertex whose result a remote context is: a checkout, what is in an archive, or the
    /// file itself.
    pub(super) fn remote(&mut self, remote: &Remote) -> VertexIndex {
        let (what, archive) = match &remote.source {
            SourceOp::Http(http) => (http.to_string(), true),
            SourceOp::Git(git) => (git.to_string(), false),
            SourceOp::Image(_) | SourceOp::Local(_) => (String::new(), false),
        };
        let meta = |name: String| VertexMeta { name, ..VertexMeta::default() };
        let source = self.definition.add(Vertex {
            op: Op::Source(remote.source.clone()),
            inputs: Vec::new(),
            meta: meta(format!("[context {}] {what}", remote.name)),
        });
        if !archive {
            return source;
        }
        let modes = self.options.context_modes.clone();
        self.definition.add(Vertex {
            // There is one file, whatever the server calls it.
            op: Op::File(FileOp::import("*", false, Unpack::Auto).with_modes(modes)),
            inputs: vec![source],
            meta: meta(format!("[context {}] extract", remote.name)),
        })
    }
}
