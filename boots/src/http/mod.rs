//! HTTP: scripts, boot loaders, kernel and initramfs, disk images, health.
//!
//! | path | what |
//! |---|---|
//! | `/ipxe/script/<mac>/auto.ipxe[?card=<busid>]` | the machine's script, for its own address only; with the card that it boots from where the boot image has driver overlays |
//! | `/ipxe/binary/[<mac>/]<file>` | boot loaders |
//! | `/boot/<file>` | the boot image directory |
//! | `/images/<path>` | the images directory |
//! | others | what the server's owner answers at them: [`crate::BootsConfig::besides`] |
//! | `/healthz`, `/readyz` | whether it runs; whether it could boot a machine, and if not, why |

mod digest;
pub(crate) mod serve;
mod tally;

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Path as UrlPath, Request, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use macaddr::MacAddr6;

use self::digest::Digests;
use self::tally::{Downloads, FileBody, Tally};
use crate::bootfile;
use crate::context::{Context, ScriptRefusal, Told};
use crate::directories::{self, KERNEL_FILES};
use crate::files::{self, Opened};
use crate::inventory::InventoryError;
use crate::overlays;
use crate::scripts;
use crate::tftp::name::{Wanted, wanted};
use crate::timeline::Stage;
use ranges::Reply;

/// What HTTP serves.
pub(crate) struct Site {
    pub(crate) context: Arc<Context>,
    pub(crate) boot_dir: PathBuf,
    pub(crate) images_dir: Option<PathBuf>,
    digests: Digests,
    downloads: Downloads,
}

impl Site {
    pub(crate) fn new(context: Arc<Context>, boot_dir: PathBuf, images_dir: Option<PathBuf>) -> Arc<Self> {
        Arc::new(Self {
            context,
            boot_dir,
            images_dir,
            digests: Digests::default(),
            downloads: Downloads::default(),
        })
    }

    /// Computes the digests of what the first machine asks for, so that it need not wait for them.
    pub(crate) async fn warm(&self) {
        let root = self.boot_dir.clone();
        let names = tokio::task::spawn_blocking(move || overlays::names(&root)).await;
        let overlays = names
            .unwrap_or_default()
            .into_iter()
            .map(|name| drivers::archive_of(&name));
        let fetched = [drivers::CATALOGUE_FILE, drivers::ARCHIVE_FILE];
        let names = KERNEL_FILES
            .into_iter()
            .chain(fetched)
            .map(str::to_owned)
            .chain(overlays);
        for name in names {
            let (root, relative) = (self.boot_dir.clone(), name.clone());
            let opened = tokio::task::spawn_blocking(move || files::open_below(&root, &relative));
            if let Ok(Ok(opened)) = opened.await {
                let _ = self.digests.etag(&self.boot_dir, &name, &opened).await;
            }
        }
    }
}

/// The routes; what none of them matches is on the timeline.
pub(crate) fn router(site: Arc<Site>, besides: Router) -> Router {
    let context = site.context.clone();
    let fallback = async move |request: Request| other(&context, &request);
    let told = site.context.clone();
    let besides = besides.layer(middleware::from_fn(move |request: Request, next: Next| {
        let context = told.clone();
        async move { tell(&context, request, next).await }
    }));
    Router::new()
        .route("/ipxe/script/{mac}/auto.ipxe", get(script))
        .route("/ipxe/binary/{*path}", get(loader))
        .route("/boot/{*path}", get(boot_file))
        .route("/images/{*path}", get(image))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(site)
        .merge(besides)
        .fallback(fallback)
}

/// Has an answer of somebody else's be on the timeline.
async fn tell(context: &Context, request: Request, next: Next) -> Response {
    let asked = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map(|ConnectInfo(peer)| peer.ip());
    let response = next.run(request).await;
    let status = response.status();
    let told = match status.is_success() || status == StatusCode::NOT_MODIFIED {
        true => Told::answered(status.as_u16().to_string()),
        false => Told::failed(status.as_u16().to_string()),
    };
    let mac = from.and_then(|from| context.owner(from));
    context.record(Stage::Http, mac, format!("{asked} {path}"), told);
    response
}

/// A request's head, and whose address it comes from.
struct Asked {
    parts: Parts,
    from: IpAddr,
}

impl Asked {
    fn of(request: Request) -> Self {
        let (parts, _) = request.into_parts();
        let from = parts
            .extensions
            .get::<ConnectInfo<SocketAddr>>()
            .map_or(IpAddr::from([0, 0, 0, 0]), |ConnectInfo(peer)| {
                peer.ip().to_canonical()
            });
        Self { parts, from }
    }

    /// The network card that iPXE says it booted from.
    fn card(&self) -> Option<String> {
        let query = self.parts.uri.query()?;
        let mut words = url::form_urlencoded::parse(query.as_bytes());
        words.find_map(|(name, value)| (name == scripts::CARD).then(|| value.into_owned()))
    }

    fn what(&self) -> String {
        let path: String = self.parts.uri.path().chars().take(200).collect();
        format!("{} {path}", self.parts.method)
    }
}

async fn script(State(site): State<Arc<Site>>, UrlPath(mac): UrlPath<String>, request: Request) -> Response {
    let asked = Asked::of(request);
    let context = &site.context;
    let Ok(mac) = mac.parse::<MacAddr6>() else {
        let told = Told::failed("400: the path holds no MAC");
        context.record(Stage::Http, context.owner(asked.from), asked.what(), told);
        return say(StatusCode::BAD_REQUEST, "not a MAC address");
    };
    let card = asked.card();
    let card = card
        .as_deref()
        .map_or(overlays::Asked::Anew, overlays::Asked::With);
    match context.script(mac, asked.from, Stage::Http, card).await {
        Ok(made) => {
            let told = Told::answered(format!("200: {}", made.why)).bytes(made.text.len() as u64);
            context.record(Stage::Http, Some(mac), asked.what(), told);
            let headers = [
                (CONTENT_TYPE, "text/plain; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
            ];
            (headers, made.text).into_response()
        }
        Err(refusal) => {
            let (status, told): (_, fn(String) -> Told) = match refusal {
                ScriptRefusal::Stranger(_) => (StatusCode::NOT_FOUND, Told::refused),
                ScriptRefusal::WrongAddress { .. } => (StatusCode::FORBIDDEN, Told::refused),
                ScriptRefusal::NoAddress { .. } => (StatusCode::SERVICE_UNAVAILABLE, Told::failed),
                ScriptRefusal::NothingToBoot { .. } => (StatusCode::NOT_FOUND, Told::refused),
                ScriptRefusal::BadValue { .. } | ScriptRefusal::BootImage(_) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, Told::failed)
                }
                ScriptRefusal::Inventory(_) => (StatusCode::SERVICE_UNAVAILABLE, Told::failed),
            };
            // A stranger's MAC is its own entry's; the names of machines are not for others to read.
            let told = told(format!("{}: {refusal}", status.as_u16()));
            context.record(Stage::Http, Some(mac), asked.what(), told);
            say(status, status.canonical_reason().unwrap_or("refused"))
        }
    }
}

async fn loader(State(site): State<Arc<Site>>, request: Request) -> Response {
    let asked = Asked::of(request);
    // The path as it came: what may stand behind a loader's name need not be UTF-8.
    match wanted(asked.parts.uri.path()) {
        Wanted::Loader(name) => file(&site, &site.boot_dir, name, asked).await,
        // iPXE asks where it came from, which is here after HTTP boot.
        Wanted::AutoExec => {
            let context = &site.context;
            let told = Told::answered(format!("200: {}", scripts::AUTOEXEC_WHY))
                .bytes(scripts::AUTOEXEC.len() as u64);
            context.record(Stage::Http, context.owner(asked.from), asked.what(), told);
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], scripts::AUTOEXEC).into_response()
        }
        _ => refuse(
            &site.context,
            &asked,
            StatusCode::NOT_FOUND,
            "no such boot loader",
        ),
    }
}

async fn boot_file(
    State(site): State<Arc<Site>>,
    UrlPath(path): UrlPath<String>,
    request: Request,
) -> Response {
    file(&site, &site.boot_dir, &path, Asked::of(request)).await
}

async fn image(State(site): State<Arc<Site>>, UrlPath(path): UrlPath<String>, request: Request) -> Response {
    let asked = Asked::of(request);
    match &site.images_dir {
        Some(root) => file(&site, root, &path, asked).await,
        None => refuse(
            &site.context,
            &asked,
            StatusCode::NOT_FOUND,
            "there is no images directory",
        ),
    }
}

async fn ready(State(site): State<Arc<Site>>) -> Response {
    let missing = directories::missing(&site.boot_dir, KERNEL_FILES);
    let mut lacks = Vec::new();
    if !missing.is_empty() {
        lacks.push(format!(
            "the boot image directory has no {}: `farrier image build` makes them",
            missing.join(", ")
        ));
    }
    if let Err(InventoryError(why)) = site.context.inventory.ready().await {
        lacks.push(why);
    }
    if lacks.is_empty() {
        return "ready\n".into_response();
    }
    say(StatusCode::SERVICE_UNAVAILABLE, lacks.join("\n"))
}

fn other(context: &Context, request: &Request) -> StatusCode {
    let from = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map(|info| info.0);
    let what = format!(
        "{} {}",
        request.method(),
        request.uri().path().chars().take(200).collect::<String>()
    );
    let mac = from.and_then(|from| context.owner(from.ip()));
    context.record(Stage::Http, mac, what, Told::failed("404: no such path"));
    StatusCode::NOT_FOUND
}

/// Answers with a file below `root`.
async fn file(site: &Site, root: &Path, relative: &str, asked: Asked) -> Response {
    let opened = {
        let (root, relative) = (root.to_owned(), relative.to_owned());
        tokio::task::spawn_blocking(move || files::open_below(&root, &relative)).await
    };
    let found = match opened.map_err(std::io::Error::other).flatten() {
        Ok(opened) => site
            .digests
            .etag(root, relative, &opened)
            .await
            .map(|etag| (opened, etag)),
        Err(error) => Err(error),
    };
    match found {
        Ok((opened, etag)) => send(site, opened, &etag, asked).await,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let told = Told::failed(format!("404: {}", not_found(site, root, relative)));
            let mac = site.context.owner(asked.from);
            site.context.record(Stage::Http, mac, asked.what(), told);
            say(StatusCode::NOT_FOUND, "no such file")
        }
        Err(error) => refuse(&site.context, &asked, StatusCode::INTERNAL_SERVER_ERROR, error),
    }
}

/// Why there is no such file, with the cure: for the timeline, since a peer need not know this host's directories.
fn not_found(site: &Site, root: &Path, relative: &str) -> String {
    let directory = root.display();
    if root == site.boot_dir && (KERNEL_FILES.contains(&relative) || bootfile::LOADERS.contains(&relative)) {
        format!("{directory} has no {relative}: `farrier image build --boot-dir {directory}` makes it")
    } else if root.is_dir() {
        format!("no such file in {directory}")
    } else {
        format!("the directory {directory} does not exist")
    }
}

async fn send(site: &Site, opened: Opened, etag: &str, asked: Asked) -> Response {
    let size_bytes = opened.fingerprint.size_bytes;
    let is_head = asked.parts.method == Method::HEAD;
    // Range is for GET only (RFC 9110 section 14.2).
    let reply = match ranges::decide(&asked.parts.headers, etag, size_bytes) {
        Reply::Part(_) | Reply::Unsatisfiable if is_head => Reply::Whole,
        reply => reply,
    };
    let (status, part, content_range) = match &reply {
        Reply::NotModified => (StatusCode::NOT_MODIFIED, 0..0, None),
        Reply::Part(part) => {
            let content_range = format!("bytes {}-{}/{size_bytes}", part.start, part.end - 1);
            (StatusCode::PARTIAL_CONTENT, part.clone(), Some(content_range))
        }
        Reply::Unsatisfiable => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            0..0,
            Some(format!("bytes */{size_bytes}")),
        ),
        Reply::Whole => (StatusCode::OK, 0..size_bytes, None),
    };
    let len_bytes = part.end - part.start;
    let told = match &content_range {
        Some(range) => format!("{} {range}", status.as_u16()),
        None => status.as_u16().to_string(),
    };
    let tally = Tally {
        context: site.context.clone(),
        mac: site.context.owner(asked.from),
        what: asked.what(),
        status: told,
        total_bytes: if is_head { 0 } else { len_bytes },
        sent_bytes: 0,
    };
    let body = if is_head || len_bytes == 0 {
        drop(tally);
        Body::empty()
    } else {
        Body::from_stream(FileBody::new(opened.file, part.start, &site.downloads, tally))
    };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(ETAG, etag);
    }
    if status != StatusCode::NOT_MODIFIED {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(len_bytes));
    }
    if let Some(range) = content_range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        headers.insert(CONTENT_RANGE, range);
    }
    response
}

fn refuse(context: &Context, asked: &Asked, status: StatusCode, why: impl Display) -> Response {
    let told = Told::failed(format!("{}: {why}", status.as_u16()));
    context.record(Stage::Http, context.owner(asked.from), asked.what(), told);
    let words = if status.is_server_error() {
        "the file cannot be read".to_owned()
    } else {
        why.to_string()
    };
    say(status, words)
}

fn say(status: StatusCode, words: impl Display) -> Response {
    (status, format!("{words}\n")).into_response()
}
