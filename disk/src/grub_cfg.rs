//! The entry that GRUB would start, read out of an installed system's `grub.cfg`: kernel, arguments, initial RAM disks.
//!
//! A part of GRUB's language: words and quotes, `menuentry`, `submenu`, `set`. Conditions are not evaluated: of two kernels in one
//! entry the first counts, and `set default` counts where it has a value that is written out.
//! Source: GNU GRUB manual 2.12, sections "Writing full configuration files directly" and "default".

/// Of a file; `update-grub` writes some 10 kB.
pub const LIMIT_BYTES: usize = 1 << 20;
/// Menu entries that are read.
const LIMIT_ENTRIES: usize = 1000;
/// Submenus in submenus.
const LIMIT_DEPTH: usize = 16;

/// What starts a system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub title: String,
    /// A path in the filesystem that GRUB reads.
    pub kernel: String,
    pub arguments: Vec<String>,
    /// Given to the kernel one behind the other.
    pub initrds: Vec<String>,
}

/// Why there is no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEntry {
    /// Fedora and its relatives keep entries elsewhere.
    #[error("it has no entries of its own, and reads them from /boot/loader/entries (blscfg)")]
    BootLoaderSpec,
    #[error("it has no menu entry with a Linux kernel")]
    None,
    #[error("it is no text")]
    NotText,
    #[error("it has {bytes} B; {LIMIT_BYTES} B are read at most")]
    TooLong { bytes: usize },
    #[error("its menu has more than {LIMIT_ENTRIES} entries, or is more than {LIMIT_DEPTH} submenus deep")]
    TooMuch,
    #[error("line {line}: a quote is not closed")]
    Unclosed { line: usize },
}

/// The entry that a `grub.cfg` starts by itself; where it does not say which, the first.
///
/// # Errors
/// [`NoEntry`], in words that go on from the file's name.
pub fn default_entry(content: &[u8]) -> Result<Entry, NoEntry> {
    if content.len() > LIMIT_BYTES {
        return Err(NoEntry::TooLong { bytes: content.len() });
    }
    let text = std::str::from_utf8(content).map_err(|_| NoEntry::NotText)?;
    if text.contains('\0') {
        return Err(NoEntry::NotText);
    }
    let menu = Menu::read(text)?;
    let chosen = menu.default.as_deref().and_then(|default| menu.choose(default));
    let first = || menu.entries.iter().find(|item| !item.entry.kernel.is_empty());
    match chosen.or_else(first) {
        Some(item) => Ok(item.entry.clone()),
        None if menu.has_blscfg => Err(NoEntry::BootLoaderSpec),
        None => Err(NoEntry::None),
    }
}

/// An entry with its place: its number in each menu on the way, as `default` counts.
#[derive(Debug)]
struct Item {
    place: Vec<usize>,
    id: String,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Menu {
    entries: Vec<Item>,
    default: Option<String>,
    has_blscfg: bool,
}

/// What a brace has opened.
enum Block {
    Entry,
    /// How many entries and submenus it has so far.
    Submenu(usize),
    /// A function, or words that are none of ours.
    Other,
}

impl Menu {
    fn read(text: &str) -> Result<Menu, NoEntry> {
        let mut menu = Menu::default();
        let mut open: Vec<Block> = Vec::new();
        let mut place: Vec<usize> = Vec::new();
        let mut top = 0;
        // Of the entry that is open: what comes after a second kernel is not its first's.
        let mut kernels = 0;
        for command in Commands::of(text) {
            let words = command?;
            let Some(first) = words.first().map(String::as_str) else {
                continue;
            };
            let opens = words.last().is_some_and(|word| word == BRACE);
            let argument = |at: usize| words.get(at).cloned().unwrap_or_default();
            let is_in_entry = matches!(open.last(), Some(Block::Entry));
            match first {
                "menuentry" | "submenu" if opens && !is_in_entry => {
                    let number = match open.last_mut() {
                        Some(Block::Submenu(count)) => count,
                        _ => &mut top,
                    };
                    let at = *number;
                    *number += 1;
                    if menu.entries.len() >= LIMIT_ENTRIES || place.len() >= LIMIT_DEPTH {
                        return Err(NoEntry::TooMuch);
                    }
                    if first == "submenu" {
                        place.push(at);
                        open.push(Block::Submenu(0));
                        continue;
                    }
                    kernels = 0;
                    menu.entries.push(Item {
                        place: [place.as_slice(), &[at]].concat(),
                        id: id(&words),
                        entry: Entry {
                            title: argument(1),
                            ..Entry::default()
                        },
                    });
                    open.push(Block::Entry);
                }
                CLOSED => {
                    if let Some(Block::Submenu(_)) = open.pop() {
                        place.pop();
                    }
                }
                _ if opens => {
                    if open.len() >= LIMIT_DEPTH * 2 {
                        return Err(NoEntry::TooMuch);
                    }
                    open.push(Block::Other);
                }
                "linux" | "linuxefi" | "linux16" if is_in_entry => {
                    kernels += 1;
                    if let (1, Some(item)) = (kernels, menu.entries.last_mut()) {
                        item.entry.kernel = argument(1);
                        item.entry.arguments = words.get(2..).unwrap_or_default().to_vec();
                    }
                }
                "initrd" | "initrdefi" | "initrd16" if is_in_entry => {
                    if let (1, Some(item)) = (kernels, menu.entries.last_mut()) {
                        item.entry.initrds = words.get(1..).unwrap_or_default().to_vec();
                    }
                }
                "set" => {
                    if let Some(value) = argument(1).strip_prefix("default=")
                        && !value.is_empty()
                    {
                        menu.default = Some(value.to_owned());
                    }
                }
                "blscfg" => menu.has_blscfg = true,
                _ => {}
            }
        }
        Ok(menu)
    }

    /// By number, id or title, on each level: `0`, `1>2`, `gnulinux-advanced>gnulinux-6.12`. `None`: there is no such one.
    fn choose(&self, default: &str) -> Option<&Item> {
        let with_kernel = || self.entries.iter().filter(|item| !item.entry.kernel.is_empty());
        let numbers: Option<Vec<usize>> = default.split('>').map(|part| part.parse().ok()).collect();
        if let Some(numbers) = numbers {
            return with_kernel().find(|item| item.place.starts_with(&numbers));
        }
        // Ids are unique: the way to one says nothing more.
        let last = default.rsplit('>').next()?;
        with_kernel().find(|item| item.id == last || item.entry.title == last)
    }
}

/// `--id X`, or what stands behind GRUB's own `$menuentry_id_option`, of which nothing is left.
fn id(words: &[String]) -> String {
    let mut rest = words.iter().skip(2).peekable();
    while let Some(word) = rest.next() {
        if word == "--id" || word == ID_OPTION {
            return rest.next().cloned().unwrap_or_default();
        }
    }
    String::new()
}

const ID_OPTION: &str = "\0id";
const BRACE: &str = "\0{";
const CLOSED: &str = "\0}";

/// The commands of a file, as words. A variable is empty, but for the one that stands for `--id`; words of nothing but variables go.
struct Commands<'a> {
    text: &'a str,
    line: usize,
    failed: bool,
}

impl<'a> Commands<'a> {
    fn of(text: &'a str) -> Commands<'a> {
        Commands {
            text,
            line: 1,
            failed: false,
        }
    }

    fn take(&mut self) -> Option<char> {
        let next = self.text.chars().next()?;
        self.text = self.text.get(next.len_utf8()..).unwrap_or_default();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn peek(&self) -> Option<char> {
        self.text.chars().next()
    }

    fn take_while(&mut self, is: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(next) = self.peek().filter(|next| is(*next)) {
            self.take();
            taken.push(next);
        }
        taken
    }

    /// What a variable is worth, behind its `$`.
    fn variable(&mut self) -> &'static str {
        let name = match self.peek() {
            Some('{') => {
                self.take();
                let inside = self.take_while(|next| next != '}');
                self.take();
                inside
            }
            _ => self.take_while(|next| next.is_ascii_alphanumeric() || next == '_'),
        };
        match name.as_str() {
            "menuentry_id_option" => ID_OPTION,
            _ => "",
        }
    }

    fn word(&mut self) -> Result<Option<String>, NoEntry> {
        let mut word = String::new();
        // Quotes make a word even of nothing.
        let (mut is_word, line) = (false, self.line);
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' | '\r' | '\n' | ';' => break,
                '#' if !is_word && word.is_empty() => break,
                '\'' => {
                    self.take();
                    is_word = true;
                    loop {
                        match self.take() {
                            Some('\'') => break,
                            Some(next) => word.push(next),
                            None => return Err(NoEntry::Unclosed { line }),
                        }
                    }
                }
                '"' => {
                    self.take();
                    is_word = true;
                    loop {
                        match self.take() {
                            Some('"') => break,
                            Some('\\') => word.extend(self.take().filter(|c| *c != '\n')),
                            Some('$') => word.push_str(self.variable()),
                            Some(next) => word.push(next),
                            None => return Err(NoEntry::Unclosed { line }),
                        }
                    }
                }
                '\\' => {
                    self.take();
                    match self.take() {
                        Some('\n') | None => {}
                        Some(next) => {
                            is_word = true;
                            word.push(next);
                        }
                    }
                }
                '$' => {
                    self.take();
                    let worth = self.variable();
                    word.push_str(worth);
                }
                next => {
                    self.take();
                    is_word = true;
                    word.push(next);
                }
            }
        }
        Ok((is_word || !word.is_empty()).then_some(word))
    }
}

impl Iterator for Commands<'_> {
    type Item = Result<Vec<String>, NoEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut words: Vec<String> = Vec::new();
        loop {
            match self.peek() {
                None => return (!words.is_empty()).then_some(Ok(words)),
                Some(' ' | '\t' | '\r') => {
                    self.take();
                }
                Some('\n' | ';') => {
                    self.take();
                    if !words.is_empty() {
                        return Some(Ok(words));
                    }
                }
                Some('#') => {
                    while self.peek().is_some_and(|next| next != '\n') {
                        self.take();
                    }
                }
                Some('{') => {
                    self.take();
                    words.push(BRACE.to_owned());
                    return Some(Ok(words));
                }
                Some('}') if words.is_empty() => {
                    self.take();
                    return Some(Ok(vec![CLOSED.to_owned()]));
                }
                // The command before it ends here.
                Some('}') => return Some(Ok(words)),
                Some(_) => match self.word() {
                    Ok(word) => words.extend(word),
                    Err(why) => {
                        self.failed = true;
                        return Some(Err(why));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
#[path = "grub_cfg/tests.rs"]
mod tests;
