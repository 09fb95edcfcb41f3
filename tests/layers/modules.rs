//! Finds which files of a crate use each other, and the cycles.
//!
//! An arrow goes from a file to the file that *defines* an item which the first one names, in a
//! private `use` or in a path in its code. Re-exports are followed to the definition, so going
//! through a parent module hides nothing. Not arrows are:
//!
//! - `mod child;` and a re-export (`pub use`, `pub(crate) use`): they only make names available.
//!   If the file also uses such a name in its own code, that is an arrow.
//! - code and files under `#[cfg(test)]`, and links in comments.
//! - method calls: the text does not show the type.
//!
//! So a parent that uses its child, which uses an item of the parent, is a cycle. The item then
//! belongs in its own file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta, UseTree, Visibility};

/// The names that a file takes from each file it uses.
type Arrows = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Files with the names of items that they define.
type Definitions = BTreeSet<(PathBuf, String)>;

/// The meaning of a name in a module.
#[derive(Clone)]
enum Name {
    /// An item that this module defines.
    Item,
    /// A child module.
    Module,
    /// An imported item: the path as written.
    Import(Vec<String>),
}

/// A module, in a file or inline.
#[derive(Default)]
struct Module {
    file: PathBuf,
    names: BTreeMap<String, Vec<Name>>,
    globs: Vec<Vec<String>>,
    /// The paths that its code and its private imports name.
    uses: Vec<Vec<String>>,
}

/// The modules of one crate, by their paths from its root.
struct Crate {
    modules: BTreeMap<Vec<String>, Module>,
    /// The imports that are being followed, each with its module.
    under_way: RefCell<BTreeSet<(Vec<String>, Vec<String>)>>,
}

/// A way from a file back to itself.
pub(crate) struct Circle {
    /// The files on the way, the first not repeated at the end.
    files: Vec<String>,
    /// The items that each file takes from the next.
    items: Vec<String>,
}

impl Circle {
    /// The files, relative to the folder of the crate's source.
    pub(crate) fn files(&self) -> Vec<&str> {
        self.files.iter().map(String::as_str).collect()
    }
}

impl Display for Circle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let next = self.files.iter().cycle().skip(1);
        f.write_str(&self.files[0])?;
        for (items, next) in self.items.iter().zip(next) {
            write!(f, "\n  → {next}  ({items})")?;
        }
        Ok(())
    }
}

/// The circles of a crate in the folder `source`: a shortest one in each group of files that all
/// reach each other.
pub(crate) fn circles(source: &Path) -> Vec<Circle> {
    let arrows = arrows(source);
    let mut seen: BTreeSet<&PathBuf> = BTreeSet::new();
    let mut circles = Vec::new();
    for file in arrows.keys() {
        if seen.contains(file) {
            continue;
        }
        if let Some(way) = shortest_circle(&arrows, file) {
            let group = reached(&arrows, file).into_keys();
            seen.extend(group.filter(|other| reached(&arrows, other).contains_key(file)));
            circles.push(circle(&arrows, source, &way));
        }
    }
    circles
}

fn circle(arrows: &Arrows, source: &Path, way: &[&PathBuf]) -> Circle {
    let name = |file: &&PathBuf| file.strip_prefix(source).unwrap().display().to_string();
    let taken =
        |pair: &[&PathBuf]| arrows[pair[0]][pair[1]].iter().cloned().collect::<Vec<_>>().join(", ");
    let files = way.iter().take(way.len() - 1).map(name).collect();
    Circle { files, items: way.windows(2).map(taken).collect() }
}

/// The shortest way from a file back to itself, with the file at both ends.
fn shortest_circle<'a>(arrows: &'a Arrows, file: &'a PathBuf) -> Option<Vec<&'a PathBuf>> {
    let before = reached(arrows, file);
    let mut circle = vec![file, before.get(file)?];
    while let Some(last) = circle.last()
        && *last != file
    {
        circle.push(before[*last]);
    }
    circle.reverse();
    Some(circle)
}

/// The files that a file reaches, each with the one before it on a shortest way.
fn reached<'a>(arrows: &'a Arrows, file: &'a PathBuf) -> BTreeMap<&'a PathBuf, &'a PathBuf> {
    let mut before = BTreeMap::new();
    let mut next = VecDeque::from([file]);
    while let Some(from) = next.pop_front() {
        for to in arrows.get(from).into_iter().flat_map(BTreeMap::keys) {
            before.entry(to).or_insert_with(|| {
                next.push_back(to);
                from
            });
        }
    }
    before
}

/// The types and traits that the source files define: also private ones, those in functions, and those
/// of unit tests. Each with its file.
pub(crate) fn types(files: impl IntoIterator<Item = PathBuf>) -> Vec<(String, PathBuf)> {
    let of_file = |file: PathBuf| {
        let mut names = TypeNames::default();
        parse(&file).iter().for_each(|item| names.visit_item(item));
        names.0.into_iter().map(move |name| (name, file.clone()))
    };
    files.into_iter().flat_map(of_file).collect()
}

fn arrows(source: &Path) -> Arrows {
    let whole = Crate { modules: modules(source), under_way: RefCell::default() };
    let mut arrows = Arrows::new();
    for (path, module) in &whole.modules {
        for used in &module.uses {
            for (file, item) in whole.definitions(path, used) {
                if file != module.file {
                    let of = arrows.entry(module.file.clone()).or_default();
                    of.entry(file).or_default().insert(item);
                }
            }
        }
    }
    arrows
}

/// The modules of a crate by their paths.
fn modules(source: &Path) -> BTreeMap<Vec<String>, Module> {
    let root = ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().find(|f| f.exists());
    let root = root.expect("a crate has a lib.rs or main.rs");
    let mut modules = BTreeMap::new();
    let items = parse(&root);
    read_module(&mut modules, &[], &root, source, &items);
    modules
}

fn parse(file: &Path) -> Vec<Item> {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display())).items
}

/// Reads a module and its children. `folder` is where the files of its children are.
fn read_module(
    modules: &mut BTreeMap<Vec<String>, Module>,
    path: &[String],
    file: &Path,
    folder: &Path,
    items: &[Item],
) {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let items = items.iter().filter(|item| !is_for_tests(attributes(item)));
    for item in items {
        match item {
            Item::Mod(child) => {
                let name = child.ident.to_string();
                let inner = folder.join(&name);
                let path: Vec<String> = path.iter().cloned().chain([name.clone()]).collect();
                match &child.content {
                    Some((_, items)) => read_module(modules, &path, file, &inner, items),
                    None => {
                        let files = [inner.with_extension("rs"), inner.join("mod.rs")];
                        let file =
                            files.iter().find(|file| file.exists()).expect("a module's file");
                        read_module(modules, &path, file, &inner, &parse(file));
                    }
                }
                module.names.entry(name).or_default().push(Name::Module);
            }
            Item::Use(item) => {
                let private = matches!(item.vis, Visibility::Inherited);
                import(&mut module, &item.tree, Vec::new(), private);
            }
            other => {
                if let Some(name) = defined(other) {
                    module.names.entry(name).or_default().push(Name::Item);
                }
                Reader { module: &mut module }.visit_item(other);
            }
        }
    }
    modules.insert(path.to_vec(), module);
}

fn import(module: &mut Module, tree: &UseTree, mut path: Vec<String>, private: bool) {
    match tree {
        UseTree::Path(part) => {
            path.push(part.ident.to_string());
            import(module, &part.tree, path, private);
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| import(module, tree, path.clone(), private));
        }
        UseTree::Glob(_) => {
            if private {
                module.uses.push(path.clone());
            }
            module.globs.push(path);
        }
        UseTree::Name(part) => bring_in(module, path, &part.ident, &part.ident, private),
        UseTree::Rename(part) => bring_in(module, path, &part.ident, &part.rename, private),
    }
}

fn bring_in(
    module: &mut Module,
    mut path: Vec<String>,
    name: &syn::Ident,
    alias: &syn::Ident,
    private: bool,
) {
    let alias = if name == "self" && alias == "self" {
        path.last().cloned().expect("`self` is in a group")
    } else {
        alias.to_string()
    };
    if name != "self" {
        path.push(name.to_string());
    }
    if private {
        module.uses.push(path.clone());
    }
    module.names.entry(alias).or_default().push(Name::Import(path));
}

/// The name that an item adds to its module.
fn defined(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::TraitAlias(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}

/// Collects the names of types and traits.
#[derive(Default)]
struct TypeNames(Vec<String>);

impl Visit<'_> for TypeNames {
    fn visit_item(&mut self, item: &Item) {
        let name = match item {
            Item::Enum(item) => Some(&item.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::TraitAlias(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.0.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<Meta>()
                .is_ok_and(|condition| condition.path().is_ident("test"))
    })
}

/// Collects the paths that an item names.
struct Reader<'a> {
    module: &'a mut Module,
}

impl Reader<'_> {
    /// The paths in the tokens of a macro or an attribute, whose grammar is unknown. A single
    /// word counts only if it is a type or a call, as it may be a field or a variable.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let colon =
            |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == ':');
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => self.literal(&literal.to_string()),
                TokenTree::Punct(_) => {}
                TokenTree::Ident(first) => {
                    let before = at.checked_sub(2).map(|at| tokens[at].to_string());
                    let mut path = vec![first.to_string()];
                    while colon(at)
                        && colon(at + 1)
                        && let Some(TokenTree::Ident(part)) = tokens.get(at + 2)
                    {
                        path.push(part.to_string());
                        at += 3;
                    }
                    let call = matches!(tokens.get(at), Some(TokenTree::Group(group))
                        if group.delimiter() == Delimiter::Parenthesis);
                    let whole = path.len() > 1 || call || path[0].starts_with(char::is_uppercase);
                    if whole && before.as_deref() != Some(".") {
                        self.module.uses.push(path);
                    }
                }
            }
        }
    }

    /// A path in a text, as in `#[serde(with = "crate::text")]`.
    fn literal(&mut self, literal: &str) {
        if let Some(text) = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"'))
            && let Ok(path) = syn::parse_str::<syn::Path>(text)
        {
            self.visit_path(&path);
        }
    }
}

impl Visit<'_> for Reader<'_> {
    fn visit_path(&mut self, path: &syn::Path) {
        self.module.uses.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &syn::Macro) {
        self.visit_path(&called.path);
        match called.parse_body_with(Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated) {
            Ok(arguments) => arguments.iter().for_each(|argument| self.visit_expr(argument)),
            Err(_) => self.tokens(called.tokens.clone()),
        }
    }

    fn visit_attribute(&mut self, attribute: &Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.tokens(list.tokens.clone()),
            Meta::Path(_) | Meta::NameValue(_) => {}
        }
    }

    fn visit_item_use(&mut self, item: &syn::ItemUse) {
        import(self.module, &item.tree, Vec::new(), true);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }
}

impl Crate {
    /// What an import in a module leads to, `rest` being the path that follows it. An import does
    /// not lead through itself: in `mod plan; use plan::plan;` the first `plan` is the module.
    fn through(&self, module: &[String], import: &[String], rest: &[String]) -> Definitions {
        let key = (module.to_vec(), import.to_vec());
        if !self.under_way.borrow_mut().insert(key.clone()) {
            return Definitions::new();
        }
        let path: Vec<String> = import.iter().chain(rest).cloned().collect();
        let found = self.definitions(module, &path);
        self.under_way.borrow_mut().remove(&key);
        found
    }

    /// The files that define the item of a path in a module, each with the item's name. Several if
    /// the name is a type and a function; none for other crates and variables.
    fn definitions(&self, module: &[String], path: &[String]) -> Definitions {
        let Some((first, rest)) = path.split_first() else { return Definitions::new() };
        let parent = || &module[..module.len().saturating_sub(1)];
        match first.as_str() {
            "crate" => return self.definitions(&[], rest),
            "self" => return self.definitions(module, rest),
            "super" => return self.definitions(parent(), rest),
            _ => {}
        }
        let Some(of) = self.modules.get(module) else { return Definitions::new() };
        let Some(names) = of.names.get(first) else {
            return of.globs.iter().flat_map(|glob| self.through(module, glob, path)).collect();
        };
        let meaning = |name: &Name| match name {
            Name::Item => Definitions::from([(of.file.clone(), first.clone())]),
            Name::Module => {
                let child: Vec<String> = module.iter().chain([first]).cloned().collect();
                self.definitions(&child, rest)
            }
            Name::Import(import) => self.through(module, import, rest),
        };
        // A longer path leads through the module, even if a function has the same name.
        let module = names.iter().find(|name| matches!(name, Name::Module));
        match module.filter(|_| !rest.is_empty()) {
            Some(child) => meaning(child),
            None => names.iter().flat_map(meaning).collect(),
        }
    }
}
