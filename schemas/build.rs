//! Compiles the schemas with a protobuf compiler written in Rust, so that none needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/loyalty/v1/archive.proto", "proto/loyalty/v1/ask.proto", "proto/loyalty/v1/book.proto"], ["proto"])?;
    prost_build::Config::new().compile_fds(files)?;
    Ok(())
}
