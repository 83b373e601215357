//! What a file has for machines: which of its documents are records, and what is passed over.
//!
//! The files of the field are mixed: `kubectl get hardware -o yaml` gives a List, upstream's file backend has a bare list of
//! Hardware, and a Namespace, a Secret or a BMC's Machine stands in the same file as the Hardware that it goes with. What is
//! no machine is named and passed over, unless somebody is strict.
//!
//! What `farrier machine get -o yaml` shows is read, too: its `document` is the record. Where a credential was hidden when it was
//! shown, the record keeps the one that is stored.

use std::borrow::Cow;

use serde_json::Value;
use yaml::{Entry, Findings, Kind, Known, Limits, Node, Place, Unknown, What};

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

/// A file of machines, as it is to be applied.
#[derive(Clone, Debug, Default)]
pub struct File {
    pub text: String,
    /// Its name, for messages.
    pub source: String,
    pub strictness: Strictness,
}

/// How a text is shown to people: with the credentials of its URLs hidden.
pub type Shown = fn(&str) -> Cow<'_, str>;

/// What is stored of machines, and how it was shown.
#[derive(Clone, Copy)]
pub(super) struct Stored<'s> {
    /// The document of the machine of this name.
    pub(super) document: &'s dyn Fn(&str) -> Option<Value>,
    pub(super) shown: Shown,
}

impl Stored<'_> {
    /// For files that stand alone.
    pub(super) const NOTHING: Stored<'static> = Stored {
        document: &|_| None,
        shown: |text| Cow::Borrowed(text),
    };
}

/// What a file has.
pub(super) struct Read {
    pub(super) drafts: Vec<Draft>,
    /// Those that are wrong, too.
    pub(super) records: usize,
    /// What is no machine, in words.
    pub(super) foreign: Vec<String>,
}

/// The records of a file, each by itself.
pub(super) fn drafts(file: &File, stored: Stored<'_>, findings: &Findings) -> Read {
    let documents = yaml::parse(&file.text, LIMITS);
    let mut found = Found {
        strictness: file.strictness,
        stored,
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
    Read {
        drafts: found.drafts,
        records: found.records,
        foreign: found.foreign,
    }
}

struct Found<'f> {
    strictness: Strictness,
    stored: Stored<'f>,
    findings: &'f Findings,
    drafts: Vec<Draft>,
    records: usize,
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
        match as_shown(node) {
            None => self.document_of(node, None),
            Some(document) => self.document_of(document, node.entry("namespace")),
        }
    }

    /// `namespace`: of the machine that is shown, for a document that names none.
    fn document_of(&mut self, written: &Node, namespace: Option<&Entry>) {
        let node = &self.revealed(written);
        let before = self.drafts.len();
        self.read(node);
        let Some(namespace) =
            namespace.and_then(|entry| Some((entry.node.text()?.to_owned(), entry.node.at)))
        else {
            return;
        };
        for draft in &mut self.drafts[before..] {
            draft.namespace.get_or_insert_with(|| namespace.clone());
        }
    }

    /// The same with the stored credentials where they were hidden; says where there is none for what was hidden.
    fn revealed(&self, written: &Node) -> Node {
        let mut node = written.clone();
        let mut hidden = Vec::new();
        marked(&node, &mut hidden);
        if hidden.is_empty() {
            return node;
        }
        let metadata = node.get("metadata");
        let name = node.get("machine").or_else(|| metadata?.get("name"));
        if let Some(stored) = name.and_then(Node::text).and_then(self.stored.document) {
            reveal(&mut node, &stored, self.stored.shown);
        }
        hidden.clear();
        marked(&node, &mut hidden);
        for place in hidden {
            let message = "*** stands where a credential was hidden when this was shown: write it anew";
            self.findings.warn(place, Kind::Odd, message);
        }
        node
    }

    fn read(&mut self, node: &Node) {
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

/// The record in what `machine get` shows in YAML or JSON; `None`: it is something else.
fn as_shown(node: &Node) -> Option<&Node> {
    let is_record = ["machine", "kind", "apiVersion"]
        .iter()
        .any(|name| node.get(name).is_some());
    let document = node.get("document").filter(|_| !is_record)?;
    matches!(document.what, What::Map(_)).then_some(document)
}

/// What stands in a URL where it had credentials.
const MARKS: [&str; 2] = ["***@", "=***"];

/// The places of texts that have such a mark.
fn marked(node: &Node, places: &mut Vec<Place>) {
    match &node.what {
        What::Nothing => {}
        What::Scalar(scalar) if MARKS.iter().any(|mark| scalar.text.contains(mark)) => places.push(node.at),
        What::Scalar(_) => {}
        What::List(items) => items.iter().for_each(|item| marked(item, places)),
        What::Map(entries) => entries.iter().for_each(|entry| marked(&entry.node, places)),
    }
}

/// Puts what is stored where it stands as it is shown.
fn reveal(node: &mut Node, stored: &Value, shown: Shown) {
    match (&mut node.what, stored) {
        (What::Scalar(scalar), Value::String(text)) if shown(text) == scalar.text.as_str() => {
            scalar.text.clone_from(text);
            scalar.value = stored.clone();
        }
        (What::List(items), Value::Array(stored)) => {
            items
                .iter_mut()
                .zip(stored)
                .for_each(|(item, stored)| reveal(item, stored, shown));
        }
        (What::Map(entries), Value::Object(stored)) => {
            for entry in entries {
                if let Some(stored) = stored.get(&entry.name) {
                    reveal(&mut entry.node, stored, shown);
                }
            }
        }
        _ => {}
    }
}
