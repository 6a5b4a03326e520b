//! `loyalty bench`
pub async fn run(_options: crate::args::BenchOptions) -> anyhow::Result<()> {
    Ok(())
}
