//! The client: what every operation goes through.

use std::fmt;
use std::sync::Arc;

use oci::Reference;
use ureq::http::header;

use crate::auth::Auth;
use crate::config::ClientConfig;
use crate::endpoint::Endpoint;
use crate::error::ErrorKind;
use crate::limiter::Limiter;
use crate::retry::{self, RetryPolicy};
use crate::scope::Scopes;
use crate::transport::{Reply, Request, Transport};
use crate::url;

/// Called with what failed, the error, and the number of the attempt.
type Listener = Arc<dyn Fn(&str, &str, u32) + Send + Sync>;

/// A registry client. Share one between all threads: connections, tokens and the bound on
/// concurrent transfers belong to it.
pub struct Client {
    pub(crate) transport: Transport,
    auth: Auth,
    policy: RetryPolicy,
    pub(crate) limiter: Limiter,
    listener: Option<Listener>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// One registry and what is wanted there: the context of the requests of one operation.
pub(crate) struct Session<'a> {
    client: &'a Client,
    pub(crate) endpoint: Endpoint,
    pub(crate) repository: &'a str,
    scopes: Scopes,
}

impl Client {
    /// A client. No file is read and no connection made before it is needed.
    pub fn new(config: ClientConfig) -> Self {
        Self {
            transport: Transport::new(&config),
            auth: Auth::new(config.credentials),
            policy: config.retry,
            limiter: Limiter::new(config.per_host),
            listener: None,
        }
    }

    /// Calls `listener(what, error, attempt)` before an operation without a
    /// [`Progress`](crate::Progress) of its own is tried again.
    #[must_use]
    pub fn on_retry(self, listener: impl Fn(&str, &str, u32) + Send + Sync + 'static) -> Self {
        Self { listener: Some(Arc::new(listener)), ..self }
    }

    /// Ends every request under way in any thread, and refuses new ones with
    /// [`ErrorKind::Cancelled`]. For the end of a build: a cancel flag is looked at between two
    /// pieces of data, which a silent server delays until the idle timeout.
    pub fn shutdown(&self) {
        self.transport.shutdown();
    }

    /// From now on the registry of `reference` needs no trusted, encrypted connection: its
    /// certificate is not looked at, and where it speaks plain HTTP, so does this client. Passwords
    /// and tokens for it cross the network like that, too.
    pub fn allow_insecure(&self, reference: &Reference) {
        self.transport.insecure.allow(&Endpoint::of(reference).host);
    }

    pub(crate) fn session<'a>(&'a self, reference: &'a Reference, scopes: Scopes) -> Session<'a> {
        let mut endpoint = Endpoint::of(reference);
        let insecure = &self.transport.insecure;
        if insecure.has(&endpoint.host) {
            endpoint.scheme =
                insecure.scheme(&endpoint.host, |scheme| self.speaks(&endpoint.host, scheme));
        }
        Session { client: self, endpoint, repository: reference.path(), scopes }
    }

    /// Whether something answers at `host` that speaks `scheme`.
    fn speaks(&self, host: &str, scheme: &str) -> bool {
        let asked = url::parse(&format!("{scheme}://{host}/v2/"));
        asked.and_then(|url| self.transport.send(&Request::get(url))).is_ok()
    }

    /// Runs `attempt` until it succeeds, fails for good or was tried often enough.
    pub(crate) fn retrying<T>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> Result<T, ErrorKind>,
    ) -> Result<T, ErrorKind> {
        let mut count = 1;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) => {
                    let tell = |error: &str, count| {
                        if let Some(listener) = &self.listener {
                            listener(what, error, count);
                        }
                    };
                    self.pause(error, count, &|| false, &tell)?;
                    count += 1;
                }
            }
        }
    }

    /// Waits before attempt `count` (from 1), which failed with `error`, is followed by another.
    ///
    /// # Errors
    /// `error`, if there shall be no other; [`ErrorKind::Cancelled`].
    pub(crate) fn pause(
        &self,
        error: ErrorKind,
        count: u32,
        cancelled: &dyn Fn() -> bool,
        tell: &dyn Fn(&str, u32),
    ) -> Result<(), ErrorKind> {
        let stop = || self.transport.is_closed() || cancelled();
        if stop() {
            return Err(ErrorKind::Cancelled);
        }
        let Some(pause) = self.policy.pause(count, &error) else {
            return Err(error);
        };
        tell(&error.to_string(), count);
        retry::sleep(pause, &stop)
    }
}

impl Session<'_> {
    /// A URL below the repository.
    pub(crate) fn url(&self, rest: &str) -> Result<ureq::http::Uri, ErrorKind> {
        url::parse(&self.endpoint.url(self.repository, rest))
    }

    /// Sends `request` with the authorization that the registry wants, and answers one challenge.
    /// A URL of another origin (an upload's place) gets no authorization.
    ///
    /// # Errors
    /// If no answer came, or if authorization cannot be had. Any other status is `Ok`.
    pub(crate) fn send(&self, mut request: Request<'_>) -> Result<Reply, ErrorKind> {
        let (transport, auth) = (&self.client.transport, &self.client.auth);
        let home = self.url("")?;
        if !url::same_origin(&home, &request.url) {
            return transport.send(&request);
        }
        request.authorization = auth.authorization(transport, &self.endpoint, &self.scopes)?;
        let reply = transport.send(&request)?;
        // A challenge by someone whom a redirect led to is not the registry's: answering it would
        // tell the registry's credentials to a token server of the stranger's choice.
        if reply.status != 401 || !url::same_origin(&home, &reply.url) {
            return Ok(reply);
        }
        let challenges = reply.texts(header::WWW_AUTHENTICATE);
        let refusal = reply.answer();
        let used = request.authorization.as_ref();
        match auth.answer(transport, &self.endpoint, &self.scopes, &challenges, used)? {
            Some(header) => {
                request.authorization = Some(header);
                transport.send(&request)
            }
            None => Err(refusal.into_kind(auth.has_credentials(&self.endpoint))),
        }
    }

    /// As [`send`](Self::send), and any status but those in `wanted` is an error.
    ///
    /// # Errors
    /// By the answer's status.
    pub(crate) fn expect(&self, request: Request<'_>, wanted: &[u16]) -> Result<Reply, ErrorKind> {
        let reply = self.send(request)?;
        if wanted.contains(&reply.status) { Ok(reply) } else { Err(self.refused(reply)) }
    }

    /// The error that an answer is.
    pub(crate) fn refused(&self, reply: Reply) -> ErrorKind {
        reply.answer().into_kind(self.client.auth.has_credentials(&self.endpoint))
    }
}
