//! Template text and devices to YAML text, with Go's `text/template`.
//!
//! Go names the place of an execution error; the library does not. So each action of the parsed template gets a call
//! before it that notes where it stands, and at its end one that refuses to print nothing at all (Go would print
//! `<no value>`, which then is somebody's disk or host name).

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gotmpl::parse::{ActionNode, CommandNode, Expr, ListNode, Node, Number, Parser, PipeNode, Pos};
use gotmpl::{MissingKey, TemplateError, Value};
use yaml::{Kind, nearest};

use super::holes::{Masked, is_version_1};
use super::problem::{Problem, Text};
use super::{Definition, Devices, Failed, blocks, context, functions, references};

/// What a template may come to, as upstream.
pub const MAX_RENDERED_BYTES: usize = 256 * 1024;
/// What a template may be.
const MAX_TEMPLATE_BYTES: usize = 256 * 1024;
/// Fields of a record that are told when one is asked for that it has not.
const SHOWN_FIELDS: usize = 12;
/// Passes through loops in one rendering.
const MAX_LOOPS: u64 = 100_000;
// No template can write these names.
const MAIN: &str = "\0main";
const NOTE_PLACE: &str = "\0place";
const NOT_NOTHING: &str = "\0print";

/// A template whose syntax is good and whose functions and templates are all known.
pub(super) struct Template<'a> {
    text: &'a str,
    /// Of version 1.
    masked: Option<Masked>,
    main: ListNode,
    defined: Vec<(String, ListNode)>,
}

impl<'a> Template<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Template<'a>, Vec<Problem>> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let message = format!(
                "the template has {} B, {MAX_TEMPLATE_BYTES} B is the most",
                text.len()
            );
            return Err(vec![Problem::at(
                Text::Template,
                text,
                (0, 0),
                Kind::TooMuch,
                message,
            )]);
        }
        let masked = is_version_1(text).then(|| Masked::new(text));
        let parsed = masked.as_ref().map_or(text, |masked| &masked.text);
        let syntax = |error| vec![syntax_problem(text, parsed, error)];
        // This finds what is wrong between several definitions, too.
        gotmpl::Template::new("").parse(parsed).map_err(syntax)?;
        blocks::check(parsed).map_err(|problem| vec![as_it_was(problem, text)])?;
        let (main, defines) = Parser::new(parsed, "{{", "}}")
            .and_then(Parser::parse)
            .map_err(syntax)?;
        let defined = defines
            .into_iter()
            .map(|define| (define.name.to_string(), define.body))
            .collect();
        let template = Template {
            text,
            masked,
            main,
            defined,
        };
        let problems = template.unknown_names();
        if problems.is_empty() {
            Ok(template)
        } else {
            Err(problems)
        }
    }

    /// It fills nothing in.
    pub(super) fn is_plain(&self) -> bool {
        self.main.nodes.iter().all(|node| matches!(node, Node::Text(_)))
    }

    /// The rendered text; when it fails, as far as it went.
    pub(super) fn render(&self, devices: &Devices) -> Result<String, Failed> {
        let place = Arc::new(AtomicUsize::new(0));
        let given = context::root(devices);
        let dicts = if self.changes_dicts() {
            functions::Dicts::changing()
        } else {
            functions::Dicts::default()
        };
        let root = dicts.kept(given.clone());
        let prepared = |list: &ListNode| match dicts.is_changing() {
            true => with_places(&references::in_list(list), self.masked.as_ref()),
            false => with_places(list, self.masked.as_ref()),
        };
        let mut template = gotmpl::Template::new("")
            .missing_key(MissingKey::Error)
            .max_range_iters(MAX_LOOPS)
            .funcs(functions::all(&dicts))
            .funcs(references::functions(&dicts))
            .func(NOT_NOTHING, |values| match values {
                [Value::Nil] | [] => Err(TemplateError::Exec("there is no value to fill in here".into())),
                [value, ..] => Ok(value.clone()),
            })
            .func(NOTE_PLACE, {
                let place = place.clone();
                move |values| {
                    let at = values
                        .first()
                        .and_then(Value::as_int)
                        .and_then(|at| usize::try_from(at).ok());
                    place.store(at.unwrap_or(0), Ordering::Relaxed);
                    Ok(Value::String("".into()))
                }
            })
            .add_parse_tree(MAIN, prepared(&self.main));
        for (name, body) in &self.defined {
            // An empty definition does not replace one with a body.
            if !body.is_empty_tree() || template.lookup(name).is_none() {
                template = template.add_parse_tree(name, prepared(body));
            }
        }
        let mut output = Limited(Vec::new());
        match template.execute_template(&mut output, MAIN, &root) {
            Ok(()) => Ok(String::from_utf8_lossy(&output.0).into_owned()),
            Err(error) => {
                let at = place.load(Ordering::Relaxed);
                let (kind, message) = self.explain(at, error, &given);
                Err(Failed {
                    problems: vec![Problem::at_offset(Text::Template, self.text, at, kind, message)],
                    yaml: String::from_utf8_lossy(&output.0).into_owned(),
                })
            }
        }
    }

    /// Whether it calls a function that changes a dict in place.
    fn changes_dicts(&self) -> bool {
        let mut changes = false;
        for body in self.bodies() {
            each_node(body, &mut |node| {
                each_expr(node, &mut |expr| {
                    changes |= matches!(expr, Expr::Identifier(_, name) if functions::CHANGING.contains(&name.as_str()));
                });
            });
        }
        changes
    }

    /// The version decides how a text is rendered, so the text itself must say it.
    pub(super) fn check_version(&self, definition: &Definition) -> Result<(), Vec<Problem>> {
        let is_1 = definition.has_expressions();
        let message = match (&self.masked, is_1) {
            (None, true) => {
                "the version is 1, but the text does not say so: write version: \"1\" at the beginning of a line, outside of {{ }}"
            }
            (Some(masked), false) if masked.text != self.text => {
                "the first version: line says 1, but another version comes out: write version: \"1\" once"
            }
            _ => return Ok(()),
        };
        Err(vec![Problem::at(
            Text::Template,
            self.text,
            (0, 0),
            Kind::Value,
            message,
        )])
    }

    /// Whether the action that has its first word at `at` has a dollar before it.
    fn is_behind_dollar(&self, at: usize) -> bool {
        let before = self.text.get(..at).unwrap_or("");
        before
            .trim_end_matches(['-', ' ', '\t', '\r', '\n'])
            .ends_with("${{")
    }

    fn bodies(&self) -> impl Iterator<Item = &ListNode> {
        std::iter::once(&self.main).chain(self.defined.iter().map(|(_, body)| body))
    }

    /// Go looks functions up when it parses. Templates it looks up when they are called; here it is done before.
    fn unknown_names(&self) -> Vec<Problem> {
        let known: BTreeSet<&str> = functions::names().collect();
        let templates: BTreeSet<&str> = self.defined.iter().map(|(name, _)| name.as_str()).collect();
        let mut problems = Vec::new();
        for body in self.bodies() {
            each_node(body, &mut |node| {
                if let Node::Template(call) = node
                    && !templates.contains(&*call.name)
                {
                    let message = format!(
                        "no template {:?} is defined{}",
                        call.name,
                        meant("", &call.name, &templates)
                    );
                    problems.push(Problem::at_offset(
                        Text::Template,
                        self.text,
                        call.pos.offset,
                        Kind::NoSuchName,
                        message,
                    ));
                }
                each_expr(node, &mut |expr| {
                    if let Expr::Identifier(pos, name) = expr
                        && !known.contains(&**name)
                    {
                        // `${{ inputs.x }}` in a text that is not of version 1.
                        let cure = if self.masked.is_none() && self.is_behind_dollar(position(node)) {
                            ": ${{ }} is of version 1; write version: \"1\" at the beginning of a line"
                                .to_owned()
                        } else {
                            match functions::why_refused(name) {
                                Some(why) => format!(": {why}"),
                                None => meant("", name, &known),
                            }
                        };
                        let message = format!("there is no function {name}{cure}");
                        problems.push(Problem::at_offset(
                            Text::Template,
                            self.text,
                            pos.offset,
                            Kind::NoSuchName,
                            message,
                        ));
                    }
                });
            });
        }
        problems
    }

    /// An execution error in words.
    fn explain(&self, at: usize, error: TemplateError, root: &Value) -> (Kind, String) {
        let message = match error {
            TemplateError::MissingKey { key } => return self.explain_missing(at, &key, root),
            TemplateError::Io(_) | TemplateError::Write => {
                format!("the rendered template would be larger than {MAX_RENDERED_BYTES} B")
            }
            TemplateError::RangeIterLimit => format!("its loops run more than {MAX_LOOPS} times"),
            TemplateError::RecursionLimit => "its templates and blocks are nested too deeply".into(),
            TemplateError::Exec(message) => message,
            TemplateError::IndexOutOfRange { index } => {
                format!("there is no item {index}: the list is shorter")
            }
            TemplateError::UndefinedVariable(name) => not_set(&name),
            other => other.to_string(),
        };
        (Kind::Template, message)
    }

    fn explain_missing(&self, at: usize, key: &str, root: &Value) -> (Kind, String) {
        // The names up to the one that is missing, and whether they begin at the root: `.a.b` does, `$x.b` may not.
        let mut path: Option<(Vec<String>, bool)> = None;
        for body in self.bodies() {
            each_node(body, &mut |node| {
                if position(node) == at {
                    each_expr(node, &mut |expr| {
                        let (names, is_field) = match expr {
                            Expr::Field(_, names) => (names, true),
                            Expr::Variable(_, _, names) | Expr::Chain(_, _, names) => (names, false),
                            _ => return,
                        };
                        if let Some(depth) = names.iter().position(|name| *name == key) {
                            let names = names[..=depth].iter().map(ToString::to_string);
                            path.get_or_insert_with(|| (names.collect(), is_field));
                        }
                    });
                }
            });
        }
        let (names, is_field) = path.unwrap_or_else(|| (vec![String::new(), key.to_owned()], false));
        let path = names.iter().filter(|name| !name.is_empty());
        let path: String = path.map(|name| format!(".{name}")).collect();
        let missing = format!("there is no value for {path}");
        let Value::Map(given) = root else {
            return (Kind::NoSuchName, missing);
        };
        if names.len() == 1 {
            return self.explain_missing_device(key, missing, given);
        }
        // In a {{with}} or {{range}} a path begins elsewhere; then it leads nowhere, or to the same record.
        let within = names[..names.len() - 1]
            .iter()
            .try_fold(root, |value, name| match value {
                Value::Map(fields) => fields.get(name.as_str()),
                _ => None,
            });
        let message = match within {
            Some(Value::Map(fields)) if is_field => {
                let known: BTreeSet<&str> = fields.keys().map(|name| &**name).collect();
                let before: String = names[..names.len() - 1]
                    .iter()
                    .map(|name| format!(".{name}"))
                    .collect();
                let has = match known.len() {
                    0 => format!("; {before} is empty"),
                    1..=SHOWN_FIELDS => {
                        let all: Vec<&str> = known.iter().copied().collect();
                        format!("; {before} has {}", all.join(", "))
                    }
                    _ => String::new(),
                };
                match nearest(key, known.iter().copied()) {
                    Some(near) => format!("{missing}; did you mean {before}.{near}?"),
                    None => format!("{missing}{has}"),
                }
            }
            _ => missing,
        };
        (Kind::NoSuchName, message)
    }

    fn explain_missing_device(
        &self,
        key: &str,
        missing: String,
        given: &std::collections::BTreeMap<Arc<str>, Value>,
    ) -> (Kind, String) {
        if key == "hardware" || key == "Hardware" {
            let message = format!("{missing}: the workflow has no machine that is known");
            return (Kind::NoRecord, message);
        }
        let given: BTreeSet<&str> = given.keys().map(|name| &**name).collect();
        if given.is_empty() {
            let message = format!("{missing}: the workflow gives no devices");
            return (Kind::NoSuchName, message);
        }
        let names: Vec<String> = given.iter().map(|name| format!(".{name}")).collect();
        let message = format!(
            "{missing}; there are {}{}",
            names.join(", "),
            meant(".", key, &given)
        );
        (Kind::NoSuchName, message)
    }
}

fn meant(dot: &str, name: &str, known: &BTreeSet<&str>) -> String {
    nearest(name, known.iter().copied())
        .map(|near| format!("; did you mean {dot}{near}?"))
        .unwrap_or_default()
}

/// A problem of the masked text, with the line that stands there.
fn as_it_was(problem: Problem, text: &str) -> Problem {
    Problem::of(Text::Template, text, problem.finding)
}

/// Why the template language refuses a text. What the library says names parts of itself; the text at the place tells
/// more.
fn syntax_problem(text: &str, parsed: &str, error: TemplateError) -> Problem {
    let (TemplateError::Parse {
        line, col, message, ..
    }
    | TemplateError::Lex {
        line, col, message, ..
    }) = error
    else {
        let message = error.to_string();
        return Problem::at(Text::Template, text, (0, 0), Kind::Template, message);
    };
    if let Some(problem) = unclosed(text, parsed, line) {
        return problem;
    }
    // The blocks are looked at when the rest is good; here they may be what is wrong with it.
    if let Err(problem) = blocks::check(parsed) {
        return as_it_was(problem, text);
    }
    let before = parsed
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum::<usize>();
    let rest = parsed.get(before..).unwrap_or("").lines().next().unwrap_or("");
    let (before, rest): (String, String) = {
        let column = col.saturating_sub(1);
        (
            rest.chars().take(column).collect(),
            rest.chars().skip(column).collect(),
        )
    };
    // It may stand behind the action that ends too early.
    let ended = before
        .trim_end()
        .strip_suffix("}}")
        .filter(|_| !rest.starts_with('}'));
    let (col, message) = match (ended, words_at(rest.trim_start())) {
        (Some(before), _) => (before.chars().count() + 1, MISSING_BEFORE_END.to_owned()),
        (None, Some(words)) => (col, words),
        (None, None) => (col, message),
    };
    Problem::at(Text::Template, text, (line, col), Kind::Template, message)
}

fn not_set(variable: &str) -> String {
    format!("the variable {variable} is not set before it is used: write {{{{ {variable} := … }}}}")
}

const MISSING_BEFORE_END: &str = "something is missing before this }}";

/// What is wrong with an action from here on; `None` when the text does not tell.
fn words_at(rest: &str) -> Option<String> {
    let first = rest.chars().next()?;
    if rest.starts_with("}}") || rest.starts_with("-}}") {
        return Some(MISSING_BEFORE_END.into());
    }
    if matches!(first, '"' | '`' | '\'') {
        return Some(format!("what this {first} begins cannot be read"));
    }
    let word: String = rest
        .chars()
        .take_while(|letter| !letter.is_whitespace() && !matches!(letter, '}' | ')' | '('))
        .collect();
    let word = if word.is_empty() { first.to_string() } else { word };
    if word.starts_with('$') {
        return Some(not_set(&word));
    }
    Some(format!("{word:?} cannot stand here in an action"))
}

/// Actions may go over several lines, so that one that is not closed is found wrong lines later, with words that do
/// not help. An action before `line` that its own line does not close is what is meant then.
fn unclosed(text: &str, parsed: &str, line: usize) -> Option<Problem> {
    let before: usize = parsed
        .split_inclusive('\n')
        .take(line.checked_sub(1)?)
        .map(str::len)
        .sum();
    let opened = parsed.get(..before)?.rfind("{{")?;
    let rest = parsed[opened..].lines().next()?;
    let is_comment = rest
        .trim_start_matches("{{")
        .trim_start_matches('-')
        .trim_start()
        .starts_with("/*");
    let is_open = || {
        let last = blocks::extents(parsed).last();
        last.is_some_and(|last| last.start == opened && !parsed[last].ends_with("}}"))
    };
    let message = if !rest.contains("}}") {
        "this {{ has no }} on its line"
    } else if is_open() {
        "a quote in this {{ }} is not closed"
    } else {
        return None;
    };
    (!is_comment).then(|| Problem::at_offset(Text::Template, text, opened, Kind::Template, message))
}

/// A copy with the calls that the module's comment speaks of, and with `${{ }}` as they were.
fn with_places(list: &ListNode, masked: Option<&Masked>) -> ListNode {
    let mut nodes = Vec::with_capacity(list.nodes.len() * 2);
    for node in &list.nodes {
        let branch = |branch: &gotmpl::parse::BranchNode| {
            let mut branch = branch.clone();
            branch.body = with_places(&branch.body, masked);
            branch.else_body = branch.else_body.as_ref().map(|body| with_places(body, masked));
            branch
        };
        let node = match node {
            Node::Text(text) => {
                let mut text = text.clone();
                if let Some(masked) = masked {
                    text.text = masked.unmask(&text.text).into();
                }
                nodes.push(Node::Text(text));
                continue;
            }
            Node::Define(_) | Node::Break(_) | Node::Continue(_) => {
                nodes.push(node.clone());
                continue;
            }
            Node::List(inner) => {
                nodes.push(Node::List(with_places(inner, masked)));
                continue;
            }
            Node::Action(action) => {
                let mut action = action.clone();
                if action.pipe.decl.is_empty() {
                    action.pipe.commands.push(call(action.pos, NOT_NOTHING, None));
                }
                Node::Action(action)
            }
            Node::If(inner) => Node::If(branch(inner)),
            Node::Range(inner) => Node::Range(branch(inner)),
            Node::With(inner) => Node::With(branch(inner)),
            Node::Template(_) => node.clone(),
        };
        let at = i64::try_from(position(&node)).unwrap_or(0);
        let pos = Pos::new(position(&node), 0);
        let commands = vec![call(pos, NOTE_PLACE, Some(at))];
        let pipe = PipeNode {
            pos,
            decl: Vec::new(),
            commands,
            is_assign: false,
        };
        nodes.push(Node::Action(ActionNode { pos, pipe }));
        nodes.push(node);
    }
    ListNode { pos: list.pos, nodes }
}

fn call(pos: Pos, name: &str, argument: Option<i64>) -> CommandNode {
    let mut args = vec![Expr::Identifier(pos, name.into())];
    args.extend(argument.map(|number| Expr::Number(pos, Number::Int(number))));
    CommandNode { pos, args }
}

fn position(node: &Node) -> usize {
    match node {
        Node::List(node) => node.pos.offset,
        Node::Text(node) => node.pos.offset,
        Node::Action(node) => node.pos.offset,
        Node::If(node) | Node::Range(node) | Node::With(node) => node.pos.offset,
        Node::Template(node) => node.pos.offset,
        Node::Define(node) => node.pos.offset,
        Node::Break(pos) | Node::Continue(pos) => pos.offset,
    }
}

/// Calls `visit` for each node, also within branches. The parser bounds how deep they are.
fn each_node(list: &ListNode, visit: &mut dyn FnMut(&Node)) {
    for node in &list.nodes {
        visit(node);
        match node {
            Node::List(inner) => each_node(inner, visit),
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => {
                each_node(&branch.body, visit);
                if let Some(other) = &branch.else_body {
                    each_node(other, visit);
                }
            }
            Node::Define(define) => each_node(&define.body, visit),
            _ => {}
        }
    }
}

/// Calls `visit` for each expression of a node, not of the nodes within it.
fn each_expr(node: &Node, visit: &mut dyn FnMut(&Expr)) {
    match node {
        Node::Action(action) => in_pipe(&action.pipe, visit),
        Node::If(branch) | Node::Range(branch) | Node::With(branch) => in_pipe(&branch.pipe, visit),
        Node::Template(call) => {
            if let Some(pipe) = &call.pipe {
                in_pipe(pipe, visit);
            }
        }
        _ => {}
    }
}

fn in_pipe(pipe: &PipeNode, visit: &mut dyn FnMut(&Expr)) {
    for expr in pipe.commands.iter().flat_map(|command| &command.args) {
        in_expr(expr, visit);
    }
}

fn in_expr(expr: &Expr, visit: &mut dyn FnMut(&Expr)) {
    visit(expr);
    match expr {
        Expr::Pipe(_, pipe) => in_pipe(pipe, visit),
        Expr::Chain(_, inner, _) => in_expr(inner, visit),
        _ => {}
    }
}

/// Takes [`MAX_RENDERED_BYTES`] and then fails.
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_RENDERED_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
