//! Cuts a set of compiled .proto files down to the keep list.
//!
//! What stays: kept messages with every field, the enums these refer to, kept services, and the
//! well-known types. A field whose message is not kept is retyped to [`UNSUPPORTED`], so that it is
//! still seen when set. Options that only matter to other code generators are dropped.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto,
    FileDescriptorSet,
};

/// Type name that fields of trimmed messages get.
pub const UNSUPPORTED: &str = ".tulle.trimmed.Unsupported";

const WELL_KNOWN: &str = "google.protobuf";
/// Packages that are kept whole and whose comments become documentation.
const OURS: &str = "tulle.";

/// Which messages and services stay. All names are fully qualified, without a leading dot.
pub struct Keep {
    packages: BTreeSet<String>,
    messages: BTreeSet<String>,
    services: BTreeSet<String>,
}

impl Keep {
    /// Reads the tables of the `keep` module.
    pub fn new(messages: &[(&str, &[&str])], services: &[&str]) -> Self {
        let mut keep = Self {
            packages: BTreeSet::new(),
            messages: BTreeSet::new(),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
        };
        for (package, names) in messages {
            for name in *names {
                match *name {
                    "*" => keep.packages.insert((*package).to_owned()),
                    name => keep.messages.insert(format!("{package}.{name}")),
                };
            }
        }
        keep
    }

    fn message(&self, package: &str, name: &str) -> bool {
        self.packages.contains(package) || self.messages.contains(name)
    }
}

/// Trims `all`, whose files are in order of dependency.
///
/// # Errors
/// A kept name that does not exist, and an enum inside a message that is not kept.
pub fn trim(all: FileDescriptorSet, keep: &Keep) -> Result<FileDescriptorSet> {
    let index = Index::new(&all, keep)?;
    let used = index.enums_used(&all);
    let mut file: Vec<_> = all
        .file
        .into_iter()
        .map(|file| trim_file(file, keep, &index, &used))
        .collect::<Result<_>>()?;
    file.retain(|file| {
        !file.message_type.is_empty() || !file.enum_type.is_empty() || !file.service.is_empty()
    });
    drop_unused_well_known(&mut file);
    Ok(FileDescriptorSet { file })
}

/// Where each type is declared, and which messages stay. Names have a leading dot.
struct Index {
    file_of: BTreeMap<String, String>,
    kept: BTreeSet<String>,
    map_entries: BTreeSet<String>,
}

impl Index {
    fn new(all: &FileDescriptorSet, keep: &Keep) -> Result<Self> {
        let mut index =
            Self { file_of: BTreeMap::new(), kept: BTreeSet::new(), map_entries: BTreeSet::new() };
        for file in &all.file {
            let scope = format!(".{}", file.package());
            for item in &file.enum_type {
                index.file_of.insert(format!("{scope}.{}", item.name()), file.name().to_owned());
            }
            for message in &file.message_type {
                index.add(file, &scope, message, keep);
            }
        }
        for name in &keep.messages {
            if !index.kept.contains(&format!(".{name}")) {
                bail!("the keep list names {name}, which does not exist");
            }
        }
        Ok(index)
    }

    fn add(
        &mut self,
        file: &FileDescriptorProto,
        scope: &str,
        message: &DescriptorProto,
        keep: &Keep,
    ) {
        let name = format!("{scope}.{}", message.name());
        self.file_of.insert(name.clone(), file.name().to_owned());
        if file.package() == WELL_KNOWN || keep.message(file.package(), &name[1..]) {
            self.kept.insert(name.clone());
        }
        if is_map_entry(message) {
            self.map_entries.insert(name.clone());
        }
        for item in &message.enum_type {
            self.file_of.insert(format!("{name}.{}", item.name()), file.name().to_owned());
        }
        for nested in &message.nested_type {
            self.add(file, &name, nested, keep);
        }
    }

    fn enums_used(&self, all: &FileDescriptorSet) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        for file in &all.file {
            for message in &file.message_type {
                self.collect_enums(&format!(".{}", file.package()), message, &mut used);
            }
        }
        used
    }

    fn collect_enums(&self, scope: &str, message: &DescriptorProto, used: &mut BTreeSet<String>) {
        let name = format!("{scope}.{}", message.name());
        let kept =
            self.kept.contains(&name) || (is_map_entry(message) && self.kept.contains(scope));
        if kept {
            let enums = message.field.iter().filter(|field| field.r#type() == Type::Enum);
            used.extend(enums.map(|field| field.type_name().to_owned()));
        }
        for nested in &message.nested_type {
            self.collect_enums(&name, nested, used);
        }
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn trim_file(
    mut file: FileDescriptorProto,
    keep: &Keep,
    index: &Index,
    used: &BTreeSet<String>,
) -> Result<FileDescriptorProto> {
    let scope = format!(".{}", file.package());
    if !file.package().starts_with(OURS) {
        file.source_code_info = None;
    }
    file.options = None;
    file.extension.clear();
    file.enum_type.retain(|item| used.contains(&format!("{scope}.{}", item.name())));
    file.enum_type.iter_mut().for_each(strip_enum);
    let messages = std::mem::take(&mut file.message_type);
    for message in messages {
        file.message_type.extend(trim_message(message, &scope, index, used)?);
    }
    let package = file.package().to_owned();
    file.service.retain(|item| keep.services.contains(&format!("{package}.{}", item.name())));
    for service in &mut file.service {
        service.options = None;
        service.method.iter_mut().for_each(|method| method.options = None);
    }
    file.public_dependency.clear();
    file.weak_dependency.clear();
    file.dependency = dependencies(&file, index)?;
    Ok(file)
}

/// `None` where neither the message nor anything inside it is kept.
fn trim_message(
    mut message: DescriptorProto,
    scope: &str,
    index: &Index,
    used: &BTreeSet<String>,
) -> Result<Option<DescriptorProto>> {
    let name = format!("{scope}.{}", message.name());
    message.enum_type.retain(|item| used.contains(&format!("{name}.{}", item.name())));
    message.enum_type.iter_mut().for_each(strip_enum);
    let map_entry = is_map_entry(&message);
    let nested = std::mem::take(&mut message.nested_type);
    for item in nested {
        message.nested_type.extend(trim_message(item, &name, index, used)?);
    }
    let kept = index.kept.contains(&name) || (map_entry && index.kept.contains(scope));
    if !kept {
        let inside = message.enum_type.iter().map(EnumDescriptorProto::name).next();
        let inside = inside.or(message
            .nested_type
            .iter()
            .filter(|item| !is_map_entry(item))
            .map(DescriptorProto::name)
            .next());
        if let Some(inside) = inside {
            bail!("{inside} is kept or used, so keep {name} that it is declared in");
        }
        return Ok(None);
    }
    message.field.iter_mut().for_each(|field| trim_field(field, index));
    message.extension.clear();
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    if !map_entry {
        message.options = None;
    }
    Ok(Some(message))
}

fn trim_field(field: &mut FieldDescriptorProto, index: &Index) {
    let packed = field.options.take().and_then(|options| options.packed);
    field.options =
        packed.map(|packed| FieldOptions { packed: Some(packed), ..Default::default() });
    let name = field.type_name();
    if field.r#type() == Type::Message
        && !index.kept.contains(name)
        && !index.map_entries.contains(name)
    {
        field.type_name = Some(UNSUPPORTED.to_owned());
    }
}

fn strip_enum(item: &mut EnumDescriptorProto) {
    if let Some(options) = &mut item.options {
        options.deprecated = None;
        options.uninterpreted_option.clear();
    }
    item.value.iter_mut().for_each(|value| value.options = None);
}

fn dependencies(file: &FileDescriptorProto, index: &Index) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for message in &file.message_type {
        collect_types(message, &mut names);
    }
    for method in file.service.iter().flat_map(|service| &service.method) {
        names.insert(method.input_type().to_owned());
        names.insert(method.output_type().to_owned());
    }
    let mut files = BTreeSet::new();
    for name in names {
        let owner = index.file_of.get(&name).with_context(|| format!("{name} is not declared"))?;
        if owner != file.name() {
            files.insert(owner.clone());
        }
    }
    Ok(files.into_iter().collect())
}

fn collect_types(message: &DescriptorProto, names: &mut BTreeSet<String>) {
    names.extend(message.field.iter().filter_map(|field| field.type_name.clone()));
    message.nested_type.iter().for_each(|nested| collect_types(nested, names));
}

/// Well-known types are kept whole; their files stay only where a kept file imports them.
fn drop_unused_well_known(files: &mut Vec<FileDescriptorProto>) {
    let needed: BTreeSet<String> = files.iter().filter(|file| file.package() != WELL_KNOWN).fold(
        BTreeSet::new(),
        |mut all, file| {
            all.extend(file.dependency.iter().cloned());
            all
        },
    );
    files.retain(|file| file.package() != WELL_KNOWN || needed.contains(file.name()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> FileDescriptorSet {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.proto");
        std::fs::write(&path, format!("syntax = \"proto3\"; package a; {text}")).unwrap();
        let ours = concat!(env!("CARGO_MANIFEST_DIR"), "/../tulle-xds/proto");
        let mut compiler = protox::Compiler::new([dir.path(), ours.as_ref()]).unwrap();
        compiler.include_imports(true).open_files(["a.proto", "tulle/trimmed.proto"]).unwrap();
        compiler.file_descriptor_set()
    }

    fn keep(names: &[&str]) -> Keep {
        Keep::new(&[("a", names), ("tulle.trimmed", &["*"])], &[])
    }

    fn message<'a>(set: &'a FileDescriptorSet, name: &str) -> &'a DescriptorProto {
        let mut all = set.file.iter().flat_map(|file| &file.message_type);
        all.find(|message| message.name() == name).unwrap()
    }

    #[test]
    fn a_field_of_a_message_not_kept_stays_visible() {
        let all = compile(
            "message Kept { Other a = 1; map<string, Other> b = 2; Kept c = 3; } message Other {}",
        );
        let set = trim(all, &keep(&["Kept"])).unwrap();
        let kept = message(&set, "Kept");
        assert_eq!(kept.field[0].type_name(), UNSUPPORTED);
        assert_eq!(kept.field[1].type_name(), ".a.Kept.BEntry");
        assert_eq!(kept.nested_type[0].field[1].type_name(), UNSUPPORTED);
        assert_eq!(kept.field[2].type_name(), ".a.Kept");
        assert_eq!(set.file[0].message_type.len(), 1);
    }

    #[test]
    fn only_enums_in_use_stay() {
        let all = compile(
            "message Kept { Used a = 1; enum Inner { Z = 0; } } \
             enum Used { X = 0; } enum Unused { Y = 0; }",
        );
        let set = trim(all, &keep(&["Kept"])).unwrap();
        let enums: Vec<_> = set.file[0].enum_type.iter().map(|item| item.name()).collect();
        assert_eq!(enums, ["Used"]);
        assert!(message(&set, "Kept").enum_type.is_empty());
    }

    #[test]
    fn an_enum_in_use_inside_a_trimmed_message_is_an_error() {
        let all = compile("message Kept { Other.E a = 1; } message Other { enum E { X = 0; } }");
        let error = trim(all, &keep(&["Kept"])).unwrap_err().to_string();
        assert_eq!(error, "E is kept or used, so keep .a.Other that it is declared in");
    }

    #[test]
    fn a_kept_name_has_to_exist() {
        let error = trim(compile("message Kept {}"), &keep(&["Kep"])).unwrap_err().to_string();
        assert_eq!(error, "the keep list names a.Kep, which does not exist");
    }
}
