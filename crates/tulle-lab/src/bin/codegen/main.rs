//! Generates `tulle_xds::proto` from the .proto files committed beside it.
//!
//! `codegen` writes the files, `codegen --check` fails where they differ from what it would write,
//! and `codegen --import DIR` first replaces Envoy's .proto files by those below DIR, the `proto`
//! folder of the crate `envoy-types`, which ships them.

mod import;
mod keep;
mod trim;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use prost::Message as _;
use prost_types::FileDescriptorSet;

/// Generate the Rust code of the protocol messages.
///
/// Example: cargo run -p tulle-lab --bin codegen -- --check
#[derive(Parser)]
struct Options {
    /// Compare instead of writing; exit with 1 on a difference.
    #[arg(long)]
    check: bool,
    /// First copy the .proto files that are needed from the `proto` folder of `envoy-types`.
    #[arg(long, value_name = "DIR", conflicts_with = "check")]
    import: Option<PathBuf>,
}

/// Name of the committed descriptors, read by the JSON and YAML mapping.
const DESCRIPTORS: &str = "descriptors.bin";
/// Name of the file that puts each package in its module.
const MODULES: &str = "modules.rs";

fn main() -> Result<()> {
    let options = Options::parse();
    let xds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tulle-xds");
    let protos = xds.join("proto");
    let target = xds.join("src/proto/generated");
    if let Some(source) = &options.import {
        import::import(source, &protos, keep::ROOTS)?;
    }
    let fresh = tempfile::tempdir()?;
    generate(&protos, fresh.path())?;
    if options.check { compare(fresh.path(), &target) } else { replace(fresh.path(), &target) }
}

fn generate(protos: &Path, out: &Path) -> Result<()> {
    let descriptors = compile(protos)?;
    fs::write(out.join(DESCRIPTORS), without_comments(&descriptors).encode_to_vec())?;
    tonic_prost_build::configure()
        .out_dir(out)
        .include_file(MODULES)
        .build_transport(false)
        .btree_map(".")
        .bytes(".")
        .extern_path(".google.protobuf.Any", "crate::proto::Any")
        .extern_path(trim::UNSUPPORTED, "crate::proto::Unsupported")
        .compile_fds(descriptors)
        .context("cannot generate code")?;
    Ok(())
}

fn compile(protos: &Path) -> Result<FileDescriptorSet> {
    let mut compiler = protox::Compiler::new([protos])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(keep::ROOTS)?;
    trim::trim(compiler.file_descriptor_set(), &trim::Keep::new(keep::MESSAGES, keep::SERVICES))
}

fn without_comments(descriptors: &FileDescriptorSet) -> FileDescriptorSet {
    let mut bare = descriptors.clone();
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    bare
}

fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn replace(fresh: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for name in names(target)? {
        fs::remove_file(target.join(name))?;
    }
    for name in names(fresh)? {
        fs::copy(fresh.join(&name), target.join(&name))?;
    }
    Ok(())
}

fn compare(fresh: &Path, target: &Path) -> Result<()> {
    let (wanted, found) = (names(fresh)?, names(target)?);
    let mut differ: Vec<_> = wanted.iter().filter(|name| !found.contains(name)).collect();
    differ.extend(found.iter().filter(|name| !wanted.contains(name)));
    for name in wanted.iter().filter(|name| found.contains(name)) {
        if fs::read(fresh.join(name))? != fs::read(target.join(name))? {
            differ.push(name);
        }
    }
    if !differ.is_empty() {
        bail!(
            "generated code is out of date, run `cargo run -p tulle-lab --bin codegen`: {differ:?}"
        );
    }
    Ok(())
}
