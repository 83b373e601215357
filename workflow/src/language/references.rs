//! A template that changes dicts in place, so that it looks into them where they are kept
//! ([`Dicts`]): fields, conditions, loops, what is printed, and Go's own functions go through
//! functions that no template can write.

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos};
use gotmpl::{FuncMap, Value};
use std::sync::Arc;

use super::functions::Dicts;

const FIELD: &str = "\0field";
const INDEX: &str = "\0index";
const PLAIN: &str = "\0plain";
const TRUTH: &str = "\0truth";
const WHOLE: &str = "\0whole";

/// Go's own that look into what they are given.
const LOOKING: [&str; 9] = ["len", "not", "slice", "eq", "ne", "lt", "le", "gt", "ge"];

/// The functions that [`in_list`] has a template call.
pub(super) fn functions(dicts: &Dicts) -> FuncMap {
    let mut functions = FuncMap::new();
    let one = |look: fn(&Dicts, &Value) -> Value| {
        let dicts = dicts.clone();
        move |values: &[Value]| Ok(values.last().map_or(Value::Nil, |value| look(&dicts, value)))
    };
    functions.insert(PLAIN.into(), Arc::new(one(Dicts::plain)));
    functions.insert(TRUTH.into(), Arc::new(one(Dicts::truth)));
    let of = dicts.clone();
    let whole = move |values: &[Value]| of.whole(values.last().unwrap_or(&Value::Nil));
    functions.insert(WHOLE.into(), Arc::new(whole));
    let of = dicts.clone();
    let field = move |values: &[Value]| match values.split_last() {
        Some((value, names)) => of.field(names, value),
        None => Ok(Value::Nil),
    };
    functions.insert(FIELD.into(), Arc::new(field));
    let of = dicts.clone();
    functions.insert(INDEX.into(), Arc::new(move |values: &[Value]| of.index(values)));
    functions
}

pub(super) fn in_list(list: &ListNode) -> ListNode {
    ListNode {
        pos: list.pos,
        nodes: list.nodes.iter().map(in_node).collect(),
    }
}

fn in_node(node: &Node) -> Node {
    match node {
        Node::Action(action) => {
            let mut action = action.clone();
            action.pipe = in_pipe(&action.pipe);
            if action.pipe.decl.is_empty() {
                action.pipe.commands.push(call(action.pos, WHOLE));
            }
            Node::Action(action)
        }
        Node::If(branch) => Node::If(in_branch(branch, TRUTH)),
        Node::With(branch) => Node::With(in_branch(branch, TRUTH)),
        Node::Range(branch) => Node::Range(in_branch(branch, PLAIN)),
        Node::Template(template) => {
            let mut template = template.clone();
            template.pipe = template.pipe.as_ref().map(in_pipe);
            Node::Template(template)
        }
        Node::List(list) => Node::List(in_list(list)),
        Node::Text(_) | Node::Define(_) | Node::Break(_) | Node::Continue(_) => node.clone(),
    }
}

fn in_branch(branch: &BranchNode, look: &str) -> BranchNode {
    let mut pipe = in_pipe(&branch.pipe);
    pipe.commands.push(call(branch.pos, look));
    BranchNode {
        pos: branch.pos,
        pipe,
        body: in_list(&branch.body),
        else_body: branch.else_body.as_ref().map(in_list),
    }
}

fn in_pipe(pipe: &PipeNode) -> PipeNode {
    let mut commands = Vec::with_capacity(pipe.commands.len());
    for (index, command) in pipe.commands.iter().enumerate() {
        in_command(command, index > 0, &mut commands);
    }
    PipeNode {
        pos: pipe.pos,
        decl: pipe.decl.clone(),
        commands,
        is_assign: pipe.is_assign,
    }
}

/// `is_given`: it has the value of the command before as its last argument.
fn in_command(command: &CommandNode, is_given: bool, commands: &mut Vec<CommandNode>) {
    let mut args: Vec<Expr> = command.args.iter().map(in_expr).collect();
    match command.args.first() {
        Some(Expr::Identifier(pos, name)) => {
            let look = match name.as_str() {
                "and" | "or" => Some(TRUTH),
                name if LOOKING.contains(&name) => Some(PLAIN),
                _ => None,
            };
            if let Some(look) = look {
                for arg in args.iter_mut().skip(1) {
                    *arg = looked_at(arg.clone(), look);
                }
                if is_given {
                    commands.push(call(*pos, look));
                }
            }
            if name.as_str() == "index" {
                args[0] = Expr::Identifier(*pos, INDEX.into());
            }
        }
        // A field of what a function gives: the function's arguments follow.
        Some(Expr::Chain(pos, inner, names)) if matches!(**inner, Expr::Identifier(..)) => {
            let function = (**inner).clone();
            let function = CommandNode {
                pos: command.pos,
                args: std::iter::once(function)
                    .chain(command.args.iter().skip(1).cloned())
                    .collect(),
            };
            in_command(&function, is_given, commands);
            let mut field = call(*pos, FIELD);
            field.args.extend(named(*pos, names));
            commands.push(field);
            return;
        }
        _ => {}
    }
    commands.push(CommandNode {
        pos: command.pos,
        args,
    });
}

fn in_expr(expr: &Expr) -> Expr {
    match expr {
        Expr::Field(pos, names) => field(*pos, names, Expr::Dot(*pos)),
        Expr::Variable(pos, name, names) if !names.is_empty() => {
            field(*pos, names, Expr::Variable(*pos, name.clone(), Vec::new()))
        }
        Expr::Chain(pos, inner, names) => field(*pos, names, in_expr(inner)),
        Expr::Pipe(pos, pipe) => Expr::Pipe(*pos, in_pipe(pipe)),
        other => other.clone(),
    }
}

fn field<N: AsRef<str>>(pos: Pos, names: &[N], of: Expr) -> Expr {
    let mut command = call(pos, FIELD);
    command.args.extend(named(pos, names));
    command.args.push(of);
    Expr::Pipe(pos, only(command))
}

fn named<N: AsRef<str>>(pos: Pos, names: &[N]) -> impl Iterator<Item = Expr> {
    names
        .iter()
        .map(move |name| Expr::String(pos, name.as_ref().into()))
}

fn looked_at(expr: Expr, look: &str) -> Expr {
    let pos = expr.pos();
    let mut command = call(pos, look);
    command.args.push(expr);
    Expr::Pipe(pos, only(command))
}

fn call(pos: Pos, name: &str) -> CommandNode {
    CommandNode {
        pos,
        args: vec![Expr::Identifier(pos, name.into())],
    }
}

fn only(command: CommandNode) -> PipeNode {
    PipeNode {
        pos: command.pos,
        decl: Vec::new(),
        commands: vec![command],
        is_assign: false,
    }
}
