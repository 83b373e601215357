//! Requests to the server's registry, and manifests as it keeps them: what is understood is a name, and what is named is bounded.

use axum::http::Method;
use oci::Reference;
use registry::document::{Document, PARTS_LIMIT};
use registry::route::{Asked, asked};

pub(crate) fn run(bytes: &[u8]) {
    let text = crate::text(bytes);
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    match asked(&Method::GET, path, query) {
        Ok(Asked::Manifest(of) | Asked::Blob { of, .. }) => {
            let again: Reference = of.to_string().parse().expect("a complete name is a name");
            assert_eq!(again, of);
        }
        Ok(Asked::Tags { repository, .. }) => assert!(!repository.contains("..")),
        Ok(Asked::Base) => {}
        Err(problem) => assert!(problem.status.is_client_error() && !problem.message.is_empty()),
    }
    if let Ok(document) = Document::read(bytes) {
        assert!(document.parts().len() <= PARTS_LIMIT + 1);
        assert!(document.media_type.starts_with("application/vnd."));
    }
}
