//! An expression's text to its syntax tree. The grammar is CEL's, without messages, bytes, optional values and names
//! that begin with a dot.
//!
//! It bounds the depth of the tree, which is the depth of the evaluation's recursion, and keeps the places of everything for
//! the checker. `tests/expression_library.rs` compares it with the `cel` crate's.

use super::ExpressionProblem;
use super::lex::{Token, TokenKind, tokens};
use super::syntax::{Kind, Loop, Node, Operator};

/// Bytes of an expression.
pub const MAX_SOURCE_BYTES: usize = 1024;
/// Levels of a syntax tree. Each is some stack while it is evaluated (`evaluates_on_a_small_stack` has it measured).
pub const MAX_DEPTH: usize = 24;
/// Loops (`all`, `exists`, `exists_one`, `map`, `filter`) within each other.
pub const MAX_LOOP_DEPTH: usize = 2;

const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// The syntax tree, or what is wrong first.
pub(super) fn parse(source: &str) -> Result<Node, ExpressionProblem> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(ExpressionProblem {
            missing: None,
            offset: 0,
            message: format!(
                "an expression of {} bytes: at most {MAX_SOURCE_BYTES}, so take it apart with `set`",
                source.len()
            ),
        });
    }
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        next: 0,
        nested: 0,
        loops: 0,
    };
    if parser.peek().kind == TokenKind::End {
        return Err(parser.problem("an empty expression".into()));
    }
    let node = parser.expression()?;
    match parser.peek().kind {
        TokenKind::End => Ok(node),
        _ => Err(parser.unexpected("an operator or the end of the expression")),
    }
}

struct Parser<'a> {
    source: &'a str,
    /// Ends with `End`.
    tokens: Vec<Token>,
    next: usize,
    /// Brackets and conditionals that are open.
    nested: usize,
    loops: usize,
}

type Parsed = Result<Node, ExpressionProblem>;

impl Parser<'_> {
    /// `a ? b : c`
    fn expression(&mut self) -> Parsed {
        self.nested += 1;
        if self.nested > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let condition = self.logical()?;
        let at = self.peek().at;
        let node = if self.take("?") {
            let then = self.logical()?;
            self.expect(":", "the other half of `a ? b : c`")?;
            let otherwise = self.expression()?;
            let [condition, then, otherwise] = [condition, then, otherwise].map(Box::new);
            self.node(
                at,
                Kind::If {
                    condition,
                    then,
                    otherwise,
                },
            )?
        } else {
            condition
        };
        self.nested -= 1;
        Ok(node)
    }

    fn logical(&mut self) -> Parsed {
        self.chain("||", Kind::Any, |parser| {
            parser.chain("&&", Kind::All, |parser| parser.binary(1))
        })
    }

    fn chain(
        &mut self,
        sign: &str,
        kind: fn(Vec<Node>) -> Kind,
        mut term: impl FnMut(&mut Self) -> Parsed,
    ) -> Parsed {
        let first = term(self)?;
        let at = self.peek().at;
        let mut terms = vec![first];
        while self.take(sign) {
            terms.push(term(self)?);
        }
        if terms.len() == 1 {
            return terms.pop().ok_or_else(|| self.unexpected("a value"));
        }
        self.node(at, kind(terms))
    }

    /// Comparisons bind weakest (1), then sums (2), then products (3).
    fn binary(&mut self, weakest: u8) -> Parsed {
        let mut left = self.unary()?;
        loop {
            let Some((operator, strength)) = self.operator().filter(|(_, strength)| *strength >= weakest)
            else {
                return Ok(left);
            };
            let at = self.peek().at;
            self.next += 1;
            let right = self.binary(strength + 1)?;
            let [left_box, right] = [left, right].map(Box::new);
            left = self.node(
                at,
                Kind::Binary {
                    operator,
                    left: left_box,
                    right,
                },
            )?;
        }
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match &self.peek().kind {
            TokenKind::Name(name) if name == "in" => (Operator::In, 1),
            TokenKind::Sign(sign) => match *sign {
                "==" => (Operator::Equal, 1),
                "!=" => (Operator::NotEqual, 1),
                "<" => (Operator::Less, 1),
                "<=" => (Operator::LessOrEqual, 1),
                ">" => (Operator::Greater, 1),
                ">=" => (Operator::GreaterOrEqual, 1),
                "+" => (Operator::Add, 2),
                "-" => (Operator::Subtract, 2),
                "*" => (Operator::Multiply, 3),
                "/" => (Operator::Divide, 3),
                "%" => (Operator::Remainder, 3),
                _ => return None,
            },
            _ => return None,
        })
    }

    /// Any number of `!` or of `-`: two undo each other. The `-` before a number is a part of that.
    fn unary(&mut self) -> Parsed {
        let at = self.peek().at;
        let mut count = 0usize;
        let mut sign = "";
        let mut minus = None;
        while let TokenKind::Sign(next @ ("!" | "-")) = self.peek().kind {
            let next_at = self.peek().at;
            if next == "-" && self.is_number_next() {
                minus = Some(next_at);
                self.next += 1;
                break;
            }
            if count > 0 && next != sign {
                return Err(self.problem(format!("{next} behind {sign}: put brackets between them")));
            }
            sign = next;
            count += 1;
            self.next += 1;
        }
        let first = match minus {
            Some(_) => self.number(minus)?,
            None => self.primary()?,
        };
        let node = self.members(first)?;
        match sign {
            "!" if count % 2 == 1 => self.node(at, Kind::Not(Box::new(node))),
            "-" if count % 2 == 1 => self.node(at, Kind::Negate(Box::new(node))),
            _ => Ok(node),
        }
    }

    /// Whether a number that can have a sign is behind the next word.
    fn is_number_next(&self) -> bool {
        let next = self.tokens.get(self.next + 1).map(|token| &token.kind);
        matches!(
            next,
            Some(TokenKind::Whole { unsigned: false, .. } | TokenKind::Fraction(_))
        )
    }

    /// `.field`, `.function(…)`, `[index]` behind a value.
    fn members(&mut self, mut node: Node) -> Parsed {
        loop {
            let at = self.peek().at;
            if self.take(".") {
                let at = self.peek().at;
                let TokenKind::Name(name) = self.peek().kind.clone() else {
                    return Err(self.unexpected("a field's name (other names: x['…'])"));
                };
                if matches!(name.as_str(), "true" | "false" | "null" | "in") {
                    return Err(self.problem(format!("{name} is a word of the language: write ['{name}']")));
                }
                self.next += 1;
                node = if self.take("(") {
                    self.call(at, name, Some(node))?
                } else {
                    let of = Box::new(node);
                    self.node(at, Kind::Field { of, name })?
                };
            } else if self.take("[") {
                let index = Box::new(self.expression()?);
                self.expect("]", "the end of this index")?;
                let of = Box::new(node);
                node = self.node(at, Kind::Index { of, index })?;
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let Token { at, kind, .. } = self.peek().clone();
        match kind {
            TokenKind::Whole { .. } | TokenKind::Fraction(_) => self.number(None),
            TokenKind::Text(text) => {
                self.next += 1;
                self.node(at, Kind::Text(text))
            }
            TokenKind::Name(name) => {
                let literal = match name.as_str() {
                    "true" => Some(Kind::Bool(true)),
                    "false" => Some(Kind::Bool(false)),
                    "null" => Some(Kind::Null),
                    _ if RESERVED.contains(&name.as_str()) => {
                        return Err(self.problem(format!("{name} is a word of the language and no name")));
                    }
                    _ => None,
                };
                self.next += 1;
                match literal {
                    Some(literal) => self.node(at, literal),
                    None if self.take("(") => self.call(at, name, None),
                    None => self.node(at, Kind::Name(name)),
                }
            }
            TokenKind::Sign("(") => {
                self.next += 1;
                let node = self.expression()?;
                self.expect(")", "the end of these brackets")?;
                Ok(node)
            }
            TokenKind::Sign("[") => {
                self.next += 1;
                let elements = self.listed("]", "the end of this list", Self::expression)?;
                self.node(at, Kind::List(elements))
            }
            TokenKind::Sign("{") => {
                self.next += 1;
                let entries = self.listed("}", "the end of this map", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":", "the value of this key")?;
                    Ok((key, parser.expression()?))
                })?;
                self.node(at, Kind::Map(entries))
            }
            TokenKind::End | TokenKind::Sign(_) => Err(self.unexpected("a value")),
        }
    }

    fn listed<T>(
        &mut self,
        close: &'static str,
        what: &str,
        mut one: impl FnMut(&mut Self) -> Result<T, ExpressionProblem>,
    ) -> Result<Vec<T>, ExpressionProblem> {
        let mut all = Vec::new();
        while !self.take(close) {
            all.push(one(self)?);
            if !self.take(",") {
                self.expect(close, what)?;
                break;
            }
        }
        Ok(all)
    }

    /// Behind the `(`.
    fn call(&mut self, at: usize, function: String, target: Option<Node>) -> Parsed {
        let looping = target.is_some().then(|| Loop::named(&function)).flatten();
        self.loops += usize::from(looping.is_some());
        if self.loops > MAX_LOOP_DEPTH {
            return Err(ExpressionProblem {
                missing: None,
                offset: at,
                message: format!(
                    "{function}() within {MAX_LOOP_DEPTH} others: at most {MAX_LOOP_DEPTH} within each other, so \
                     take it apart with `set`"
                ),
            });
        }
        let mut arguments = Vec::new();
        if !self.take(")") {
            arguments.push(self.expression()?);
            while self.take(",") {
                arguments.push(self.expression()?);
            }
            self.expect(")", "the end of these arguments")?;
        }
        self.loops -= usize::from(looping.is_some());
        match (looping, target) {
            (Some(kind), Some(over)) => self.looped(at, kind, over, arguments),
            (_, None) if function == "has" => self.has(at, arguments),
            (_, target) => {
                let target = target.map(Box::new);
                self.node(
                    at,
                    Kind::Call {
                        function,
                        target,
                        arguments,
                    },
                )
            }
        }
    }

    fn looped(&mut self, at: usize, kind: Loop, over: Node, arguments: Vec<Node>) -> Parsed {
        let problem = |offset, message| {
            Err(ExpressionProblem {
                offset,
                message,
                missing: None,
            })
        };
        let count = arguments.len();
        let mut arguments = arguments.into_iter();
        let (Some(name), Some(body), second, None) = (
            arguments.next(),
            arguments.next(),
            arguments.next(),
            arguments.next(),
        ) else {
            return problem(at, wrong_arguments(kind, count));
        };
        if second.is_some() && kind != Loop::Map {
            return problem(at, wrong_arguments(kind, count));
        }
        let Kind::Name(name) = name.kind else {
            let message = format!("the first argument of {}() is a new name", kind.as_str());
            return problem(name.at, message);
        };
        let (only, body) = match second {
            Some(second) => (Some(Box::new(body)), second),
            None => (None, body),
        };
        let [over, body] = [over, body].map(Box::new);
        self.node(
            at,
            Kind::Loop {
                kind,
                over,
                name,
                only,
                body,
            },
        )
    }

    fn has(&mut self, at: usize, mut arguments: Vec<Node>) -> Parsed {
        let field = arguments.pop().filter(|_| arguments.is_empty());
        match field.map(|field| (field.at, field.kind)) {
            Some((at, Kind::Field { of, name })) => self.node(at, Kind::Has { of, name }),
            _ => Err(ExpressionProblem {
                missing: None,
                offset: at,
                message: "has() takes one field: has(x.name)".into(),
            }),
        }
    }

    /// The sign is before it, at `minus`.
    fn number(&mut self, minus: Option<usize>) -> Parsed {
        let token = self.peek().clone();
        let sign = if minus.is_some() { "-" } else { "" };
        let (text, kind) = match token.kind {
            TokenKind::Whole { text, unsigned } => {
                let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
                let (digits, radix) = digits.map_or((text.as_str(), 10), |digits| (digits, 16));
                let kind = if unsigned {
                    u64::from_str_radix(digits, radix).ok().map(Kind::Uint)
                } else {
                    i64::from_str_radix(&format!("{sign}{digits}"), radix)
                        .ok()
                        .map(Kind::Int)
                };
                (text, kind)
            }
            TokenKind::Fraction(text) => {
                let kind = format!("{sign}{text}")
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite());
                (text, kind.map(Kind::Double))
            }
            _ => return Err(self.unexpected("a number")),
        };
        let Some(kind) = kind else {
            return Err(self.problem(format!("{sign}{text} is beyond 64 bits")));
        };
        self.next += 1;
        self.node(minus.unwrap_or(token.at), kind)
    }

    fn node(&self, at: usize, kind: Kind) -> Parsed {
        let mut node = Node { at, depth: 0, kind };
        let below = node
            .children()
            .into_iter()
            .map(|child| child.depth)
            .max()
            .unwrap_or(0);
        // A loop binds and goes over a list besides; a chain is flat, and counted as if it were halved again and again.
        let own = match &node.kind {
            Kind::Loop { .. } => 4,
            Kind::All(terms) | Kind::Any(terms) => terms.len().ilog2() as usize + 1,
            _ => 1,
        };
        node.depth = below + own;
        if node.depth > MAX_DEPTH {
            return Err(ExpressionProblem {
                offset: at,
                ..self.too_deep()
            });
        }
        Ok(node)
    }

    fn peek(&self) -> &Token {
        const END: &Token = &Token {
            at: 0,
            end: 0,
            kind: TokenKind::End,
        };
        self.tokens.get(self.next).or(self.tokens.last()).unwrap_or(END)
    }

    fn take(&mut self, sign: &str) -> bool {
        let taken = matches!(self.peek().kind, TokenKind::Sign(there) if there == sign);
        self.next += usize::from(taken);
        taken
    }

    fn expect(&mut self, sign: &'static str, what: &str) -> Result<(), ExpressionProblem> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.unexpected(&format!("{sign}, {what}")))
    }

    fn unexpected(&self, wanted: &str) -> ExpressionProblem {
        let token = self.peek();
        let there = match token.kind {
            TokenKind::End => "the end",
            _ => self.source.get(token.at..token.end).unwrap_or_default(),
        };
        self.problem(format!("{there} where {wanted} should be"))
    }

    fn problem(&self, message: String) -> ExpressionProblem {
        ExpressionProblem {
            missing: None,
            offset: self.peek().at,
            message,
        }
    }

    fn too_deep(&self) -> ExpressionProblem {
        self.problem(format!(
            "nested more than {MAX_DEPTH} levels deep: take it apart with `set`"
        ))
    }
}

fn wrong_arguments(kind: Loop, count: usize) -> String {
    let name = kind.as_str();
    match kind {
        Loop::Map => format!(
            "map() takes a name and a value, or a name, a condition and a value, not {count} arguments"
        ),
        _ => format!("{name}() takes a name and a condition, not {count} arguments"),
    }
}
