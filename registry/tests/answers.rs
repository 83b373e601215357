//! Answers of the distribution API, byte by byte. Expected values: OCI distribution specification 1.1; RFC 9110.
#![allow(clippy::unwrap_used, reason = "tests")]

mod fixture;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use fixture::names::Names;
use fixture::{Image, MANIFEST, of};
use registry::{Outside, Shelf, router};
use store::blobs::{Blobs, Digest, file_of};
use tempfile::TempDir;
use tower::ServiceExt;

struct World {
    router: Router,
    image: Image,
    layer: Vec<u8>,
    dir: TempDir,
}

impl World {
    async fn new() -> World {
        let dir = TempDir::new().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let layer: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let image = Image::with(&[&layer]);
        for content in &image.contents {
            blobs.put(content.clone()).await.unwrap();
        }
        let names =
            ["v1", "v2", "v3", "latest"].map(|tag| (format!("docker.io/tools/box:{tag}"), image.digest()));
        let router = router(Shelf::new(blobs), Arc::new(Names::of(names)), Outside::nobody());
        World {
            router,
            image,
            layer,
            dir,
        }
    }

    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, Result<Vec<u8>, String>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.map(|bytes| bytes.to_vec());
        (
            parts.status,
            parts.headers,
            body.map_err(|error| error.to_string()),
        )
    }

    fn blob(&self) -> String {
        format!("/v2/tools/box/blobs/{}", of(&self.layer))
    }
}

#[tokio::test]
async fn a_manifest_is_given_by_tag_and_by_digest_and_its_head_says_the_same() {
    let world = World::new().await;
    let digest = of(world.image.manifest());
    for path in [
        "/v2/tools/box/manifests/v1".to_owned(),
        "/v2/tools/box/manifests/v1?ns=docker.io".to_owned(),
        "/v2/docker.io/tools/box/manifests/latest".to_owned(),
        format!("/v2/tools/box/manifests/{digest}"),
    ] {
        for (method, sent) in [("GET", world.image.manifest()), ("HEAD", b"")] {
            let (status, headers, body) = world.ask(method, &path, &[("accept", MANIFEST)]).await;
            assert_eq!((status, body.as_deref()), (StatusCode::OK, Ok(sent)), "{path}");
            assert_eq!(headers["content-type"], MANIFEST);
            assert_eq!(headers["docker-content-digest"], digest.as_str());
            assert_eq!(
                headers["content-length"],
                world.image.manifest().len().to_string().as_str()
            );
        }
    }
    let etag = format!("\"{digest}\"");
    let (status, ..) = world
        .ask("GET", "/v2/tools/box/manifests/v1", &[("if-none-match", &etag)])
        .await;
    assert_eq!(status, StatusCode::NOT_MODIFIED);
    let (status, headers, _) = world.ask("GET", "/v2/", &[]).await;
    assert_eq!(
        (status, &headers["docker-distribution-api-version"]),
        (StatusCode::OK, &"registry/2.0".parse().unwrap())
    );
}

#[tokio::test]
async fn errors_are_said_in_the_specifications_words() {
    let world = World::new().await;
    let nothing = of(b"nothing");
    for (method, path, headers, status, code) in [
        (
            "GET",
            "/v2/tools/box/manifests/v9",
            &[][..],
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            "/v2/tools/other/manifests/v1",
            &[],
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            "/v2/tools/box/manifests/.INVALID_MANIFEST_NAME",
            &[],
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            &format!("/v2/tools/box/manifests/{nothing}"),
            &[],
            404,
            "MANIFEST_UNKNOWN",
        ),
        // A layer is no manifest, whatever asks for it.
        (
            "GET",
            &format!("/v2/tools/box/manifests/{}", of(&world.layer)),
            &[],
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            "/v2/tools/box/manifests/v1",
            &[("accept", "application/vnd.docker.distribution.manifest.v1+json")],
            404,
            "MANIFEST_UNKNOWN",
        ),
        (
            "GET",
            &format!("/v2/tools/box/blobs/{nothing}"),
            &[],
            404,
            "BLOB_UNKNOWN",
        ),
        (
            "GET",
            "/v2/tools/box/blobs/sha256:xyz",
            &[],
            400,
            "DIGEST_INVALID",
        ),
        ("GET", "/v2/tools/Box/manifests/v1", &[], 400, "NAME_INVALID"),
        ("GET", "/v2/tools/other/tags/list", &[], 404, "NAME_UNKNOWN"),
        ("POST", "/v2/tools/box/blobs/uploads/", &[], 405, "UNSUPPORTED"),
        ("PUT", "/v2/tools/box/manifests/v1", &[], 405, "UNSUPPORTED"),
        ("DELETE", "/v2/tools/box/manifests/v1", &[], 405, "UNSUPPORTED"),
    ] {
        let (found, headers, body) = world.ask(method, path, headers).await;
        let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(found.as_u16(), status, "{method} {path}: {body}");
        assert_eq!(body["errors"][0]["code"], code, "{method} {path}");
        assert!(
            body["errors"][0]["message"]
                .as_str()
                .is_some_and(|said| !said.is_empty())
        );
        assert_eq!(headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn a_blob_is_given_whole_and_in_parts() {
    let world = World::new().await;
    let (path, layer, size) = (world.blob(), &world.layer, world.layer.len());
    let (status, headers, body) = world.ask("GET", &path, &[]).await;
    assert_eq!((status, body.unwrap() == *layer), (StatusCode::OK, true));
    assert_eq!(headers["docker-content-digest"], of(layer).as_str());
    assert_eq!(headers["accept-ranges"], "bytes");
    let (status, headers, body) = world.ask("HEAD", &path, &[("range", "bytes=5-")]).await;
    assert_eq!((status, body), (StatusCode::OK, Ok(Vec::new())));
    assert_eq!(headers["content-length"], size.to_string().as_str());
    for (range, part) in [
        ("bytes=0-0", 0..1),
        ("bytes=5-8191", 5..8192),
        ("bytes=300000-", 300_000..size),
        ("bytes=-7", size - 7..size),
    ] {
        let (status, headers, body) = world.ask("GET", &path, &[("range", range)]).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert!(body.unwrap() == layer[part.clone()], "{range}");
        let content_range = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(headers["content-range"], content_range.as_str());
        assert_eq!(headers["content-length"], part.len().to_string().as_str());
    }
    let (status, headers, _) = world.ask("GET", &path, &[("range", "bytes=400000-")]).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(headers["content-range"], "bytes */400000");
}

#[tokio::test]
async fn a_damaged_blob_never_comes_to_its_end() {
    let world = World::new().await;
    let mut damaged = world.layer.clone();
    damaged[7] ^= 1;
    std::fs::write(world.dir.path().join(file_of(&Digest::of(&world.layer))), damaged).unwrap();
    for headers in [&[][..], &[("range", "bytes=300000-")]] {
        let (_, _, body) = world.ask("GET", &world.blob(), headers).await;
        assert!(body.is_err(), "all of it came");
    }
}

#[tokio::test]
async fn tags_come_in_their_order_page_by_page() {
    let world = World::new().await;
    let (status, _, body) = world.ask("GET", "/v2/tools/box/tags/list", &[]).await;
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    assert_eq!(
        (status, body),
        (
            StatusCode::OK,
            serde_json::json!({"name": "tools/box", "tags": ["latest", "v1", "v2", "v3"]})
        )
    );
    let mut path = "/v2/tools/box/tags/list?n=3".to_owned();
    let mut pages = Vec::new();
    loop {
        let (_, headers, body) = world.ask("GET", &path, &[]).await;
        let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
        pages.push(body["tags"].as_array().unwrap().len());
        // As the specification has it: `</v2/…>; rel="next"`.
        match headers.get("link") {
            Some(link) => {
                path = link
                    .to_str()
                    .unwrap()
                    .split(['<', '>'])
                    .nth(1)
                    .unwrap()
                    .to_owned()
            }
            None => break,
        }
    }
    assert_eq!(pages, [3, 1]);
}
