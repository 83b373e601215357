//! `image.spdx.json`: the packages of a boot image in a form that programs for licences and vulnerabilities read.
//!
//! Nothing in it depends on when, where and by whom the image is built.
//!
//! Source: SPDX specification 2.3, its JSON schema, and the purl specification's type `deb`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::checksum::sha256_of_bytes;
use crate::manifest::{Component, Manifest};
use crate::sources::{NO_ASSERTION, id_of};

/// The document of an image with these components; `licences` has the texts of their `LicenseRef-…`.
pub(crate) fn document(manifest: &Manifest, licences: &BTreeMap<String, String>) -> Vec<u8> {
    let name = format!("farrier-boot-image-{}-{}", manifest.profile, manifest.kernel);
    let components = serde_json::to_vec(&manifest.components).unwrap_or_default();
    let own = json!({
        "SPDXID": IMAGE,
        "name": name,
        "versionInfo": manifest.kernel,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": NO_ASSERTION,
        "copyrightText": NO_ASSERTION,
    });
    let packages: Vec<Value> = [own]
        .into_iter()
        .chain(manifest.components.iter().map(package))
        .collect();
    let describes = relationship("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    let contains = manifest
        .components
        .iter()
        .map(|component| relationship(IMAGE, "CONTAINS", &id(component)));
    let relationships: Vec<Value> = [describes].into_iter().chain(contains).collect();
    let texts: Vec<Value> = licences
        .iter()
        .map(|(id, text)| json!({"licenseId": id, "extractedText": text, "name": id}))
        .collect();
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        // Two documents have the same only when they say the same.
        "documentNamespace": format!("https://spdx.org/spdxdocs/{name}-{}", sha256_of_bytes(&components)),
        "creationInfo": {
            "created": "1970-01-01T00:00:00Z",
            "creators": [format!("Tool: farrier-{}", env!("CARGO_PKG_VERSION"))],
            "comment": "The time is left out, so that two builds of the same inputs are the same bytes.",
        },
        "packages": packages,
        "hasExtractedLicensingInfos": texts,
        "relationships": relationships,
    });
    let mut text = serde_json::to_vec_pretty(&document).unwrap_or_default();
    text.push(b'\n');
    text
}

/// The texts of licences that a document has, for the next one.
pub(crate) fn licences_of(document: &[u8]) -> BTreeMap<String, String> {
    let document: Value = serde_json::from_slice(document).unwrap_or_default();
    let texts = document["hasExtractedLicensingInfos"]
        .as_array()
        .into_iter()
        .flatten();
    texts
        .filter_map(|one| {
            Some((
                one["licenseId"].as_str()?.to_owned(),
                one["extractedText"].as_str()?.to_owned(),
            ))
        })
        .collect()
}

fn package(component: &Component) -> Value {
    let mut package = json!({
        "SPDXID": id(component),
        "name": component.name,
        "versionInfo": component.version,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "licenseConcluded": NO_ASSERTION,
        "licenseDeclared": component.license,
        "copyrightText": NO_ASSERTION,
    });
    if !component.sha256.is_empty() {
        package["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": component.sha256}]);
    }
    if !component.suite.is_empty() {
        let archive = if component.suite.ends_with("-security") {
            "http://security.debian.org/debian-security"
        } else {
            "http://deb.debian.org/debian"
        };
        package["supplier"] = json!("Organization: Debian");
        package["downloadLocation"] = json!(format!("{archive}/{}", component.path));
        let locator = format!(
            "pkg:deb/debian/{}@{}?arch=amd64&distro={}",
            encoded(&component.name),
            encoded(&component.version),
            encoded(&component.suite)
        );
        package["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": locator,
        }]);
    }
    package
}

fn id(component: &Component) -> String {
    format!("SPDXRef-Package-{}", id_of(&component.name))
}

fn relationship(of: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to})
}

/// Percent-encoding as purls have it: all but letters, digits and `.-_~:`.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}

/// Its name in a boot image directory.
pub(crate) const SPDX: &str = "image.spdx.json";
const IMAGE: &str = "SPDXRef-Image";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn component(name: &str, license: &str, suite: &str) -> Component {
        Component {
            name: name.into(),
            version: "1:2.0+b~1".into(),
            license: license.into(),
            sha256: "5".repeat(64),
            suite: suite.into(),
            path: "pool/x.deb".into(),
            files: vec![],
            firmware: vec![],
        }
    }

    #[test]
    fn every_package_is_there_with_where_it_is_from_and_every_reference_leads_somewhere() {
        let text = r#"{"version": 1, "profile": "lab", "kernel": "6.12", "modules": [], "files": [], "components": []}"#;
        let mut manifest = Manifest::parse(text.as_bytes()).unwrap();
        manifest.components = vec![
            component("farrier-agent", "Apache-2.0", ""),
            component("linux-image-6.12+x", "GPL-2.0-only", "trixie-security"),
            component("firmware-x", "LicenseRef-Debian-firmware-x", "trixie"),
        ];
        let licences = BTreeMap::from([("LicenseRef-Debian-firmware-x".to_owned(), "text".to_owned())]);
        let written = document(&manifest, &licences);
        assert_eq!(licences_of(&written), licences);
        let document: Value = serde_json::from_slice(&written).unwrap();
        let packages = document["packages"].as_array().unwrap();
        let ids: BTreeSet<&str> = packages
            .iter()
            .map(|one| one["SPDXID"].as_str().unwrap())
            .collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
        for relationship in document["relationships"].as_array().unwrap() {
            assert!(
                ids.contains(relationship["relatedSpdxElement"].as_str().unwrap()),
                "{relationship}"
            );
        }
        for id in &ids {
            assert!(
                id.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)),
                "{id}"
            );
        }
        let kernel = &packages[2];
        assert_eq!(
            kernel["externalRefs"][0]["referenceLocator"],
            "pkg:deb/debian/linux-image-6.12%2Bx@1:2.0%2Bb~1?arch=amd64&distro=trixie-security"
        );
        assert_eq!(
            kernel["downloadLocation"],
            "http://security.debian.org/debian-security/pool/x.deb"
        );
        assert_eq!(packages[1]["downloadLocation"], NO_ASSERTION);
        for package in packages {
            let license = package["licenseDeclared"].as_str().unwrap();
            assert!(
                !license.starts_with("LicenseRef") || licences.contains_key(license),
                "{license}"
            );
        }
    }
}
