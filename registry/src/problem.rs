//! Errors as registries say them.
//!
//! Source: OCI distribution specification 1.1, "Error Codes".

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// The specification's word for what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    BlobUnknown,
    Denied,
    DigestInvalid,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    TooManyRequests,
    /// For trouble of the server's own, for which there is no word: clients go by the status.
    Unknown,
    Unsupported,
}

/// Why a request is not answered with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: Code,
    pub message: String,
}

impl Code {
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BlobUnknown => "BLOB_UNKNOWN",
            Code::Denied => "DENIED",
            Code::DigestInvalid => "DIGEST_INVALID",
            Code::ManifestInvalid => "MANIFEST_INVALID",
            Code::ManifestUnknown => "MANIFEST_UNKNOWN",
            Code::NameInvalid => "NAME_INVALID",
            Code::NameUnknown => "NAME_UNKNOWN",
            Code::TooManyRequests => "TOOMANYREQUESTS",
            Code::Unknown => "UNKNOWN",
            Code::Unsupported => "UNSUPPORTED",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Code::BlobUnknown | Code::ManifestUnknown | Code::NameUnknown => StatusCode::NOT_FOUND,
            Code::Denied => StatusCode::FORBIDDEN,
            Code::DigestInvalid | Code::ManifestInvalid | Code::NameInvalid => StatusCode::BAD_REQUEST,
            Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unsupported => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Problem {
    /// With the status that goes with the code.
    pub fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem {
            status: code.status(),
            code,
            message: message.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({"errors": [{"code": self.code.as_str(), "message": self.message}]});
        (self.status, Json(body)).into_response()
    }
}
