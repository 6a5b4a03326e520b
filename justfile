# What there is to do. `just verify` is what CI does.

# Format, lint, docs, licences, tests.
verify:
    bash .ci/run

# Every test; each starts what it needs.
test:
    cargo test --workspace

# Each fault of the storm thirty times.
soak:
    LOYALTY_STORM_TIMES=30 cargo test --release -p loyalty --test storm -- --nocapture

# The simulator: N seeds, then the bugs it must find.
sim N="5000":
    cargo run --release -p sim -- --seeds {{N}}
    cargo run --release -p sim -- --planted

# The demo: import, verify, serve.
run *ARGS:
    cargo run --release -- demo {{ARGS}}

# The table of the README.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Generated files: the rulebook's JSON Schema, golden bytes of what is new.
generate:
    cargo run -- schema rulebook > schemas/rulebook.schema.json
    GOLDEN=write cargo test -p ledger-schemas
