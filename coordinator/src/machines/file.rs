//! What a file has for machines: which of its documents are records, and what is passed over.
//!
//! The files of the field are mixed: `kubectl get hardware -o yaml` gives a List, upstream's file backend has a bare list of
//! Hardware, and a Namespace, a Secret or a BMC's Machine stands in the same file as the Hardware that it goes with. What is
//! no machine is named and passed over, unless somebody is strict.

use yaml::{Findings, Kind, Known, Limits, Node, Place, Unknown, What};

use super::document::Draft;
use super::{short, tinkerbell};

/// Ten times what a rack's worth of records comes to.
const LIMITS: Limits = Limits {
    nodes: 200_000,
    bytes: 16 << 20,
};
/// What is read, of all the kinds that there are.
const VERSION: &str = "tinkerbell.org/v1alpha1";

/// What a document is that is no machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// Passed over, with a word.
    #[default]
    PassesOver,
    /// Wrong.
    Refuses,
}

/// The records of a file, each by itself.
pub(super) fn drafts(text: &str, strictness: Strictness, findings: &Findings) -> Vec<Draft> {
    let documents = yaml::parse(text, LIMITS);
    let mut found = Found {
        strictness,
        findings,
        drafts: Vec::new(),
        records: 0,
        foreign: Vec::new(),
    };
    for document in &documents {
        for problem in &document.problems {
            found.records += 1;
            findings.problem(problem.place, problem.kind, &problem.message);
        }
        if !document.node.is_nothing() {
            found.document(&document.node);
        }
    }
    let Found {
        drafts,
        records,
        foreign,
        ..
    } = found;
    if records == 0 && !findings.has_problems() {
        let place = Place { line: 1, column: 1 };
        let only = match foreign.as_slice() {
            [] => String::new(),
            foreign => format!(", only {}", foreign.join(", ")),
        };
        let message = format!("the file holds no machine{only}");
        findings.problem(place, Kind::Missing, message);
    }
    drafts
}

struct Found<'f> {
    strictness: Strictness,
    findings: &'f Findings,
    drafts: Vec<Draft>,
    /// Those that are wrong, too.
    records: usize,
    /// What is no machine, in words.
    foreign: Vec<String>,
}

impl Found<'_> {
    fn document(&mut self, node: &Node) {
        let text = |name: &str| node.get(name).and_then(Node::text);
        match (&node.what, text("kind"), text("apiVersion")) {
            (What::List(items), ..) => self.items(items),
            (_, Some("List"), Some("v1")) | (_, Some("HardwareList"), Some(VERSION)) => {
                self.items(self.findings.list(node.get("items"), "items"));
            }
            _ => self.record(node),
        }
    }

    fn items(&mut self, items: &[Node]) {
        for item in items.iter().filter(|item| !item.is_nothing()) {
            self.record(item);
        }
    }

    fn record(&mut self, node: &Node) {
        let is_object = node.get("kind").is_some() || node.get("apiVersion").is_some();
        if !is_object {
            self.records += 1;
            self.drafts.extend(short::read(node, self.findings));
            return;
        }
        let known = Known::new("a document", &[], Unknown::Fine);
        let fields = yaml::Fields::of(Some(node), known, self.findings);
        let kind = fields.text("kind").unwrap_or_default();
        let version = fields.text("apiVersion").unwrap_or_default();
        match (kind, version) {
            ("Hardware", VERSION) => {
                self.records += 1;
                self.drafts.extend(tinkerbell::read(node, self.findings));
            }
            // Of a form that is not known here it would be wrong to say that it is no machine.
            ("Hardware" | "HardwareList" | "", _) | (_, "") => {
                self.records += 1;
                let message = format!(
                    "a document of kind {kind:?} and apiVersion {version:?} is not known: expected Hardware of {VERSION}, or the \
                     short form that begins with `machine: NAME`"
                );
                self.findings.problem(node.at, Kind::Foreign, message);
            }
            _ => self.foreign(node, kind),
        }
    }

    fn foreign(&mut self, node: &Node, kind: &str) {
        let name = node.get("metadata").and_then(|meta| meta.get("name")?.text());
        let what = match name {
            Some(name) => format!("{kind} {name:?}"),
            None => kind.to_owned(),
        };
        let cure = match kind {
            "Template" | "TinkerbellTemplateConfig" => ": `farrier template create` stores it",
            "Workflow" => ": `farrier workflow create` makes it",
            _ => "",
        };
        match self.strictness {
            Strictness::PassesOver => {
                let message = format!("{what} is no machine, and is passed over{cure}");
                self.findings.warn(node.at, Kind::Foreign, message);
                self.foreign.push(what);
            }
            Strictness::Refuses => {
                let message = format!("{what} is no machine, and nothing is passed over with --strict");
                self.findings.problem(node.at, Kind::Foreign, message);
            }
        }
    }
}
