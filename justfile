# What there is to do. `just verify` is what CI does.

# Format, lint, docs, licences, tests.
verify:
    bash .ci/run

# Every test; each starts what it needs.
test *ARGS:
    ./test {{ARGS}}

# The upgrade from the release before: builds it from the commit or tag OLD, beside this one.
rehearse-upgrade OLD:
    #!/usr/bin/env bash
    set -euo pipefail
    cargo build --locked
    tree=$(mktemp -d)
    git worktree add --detach "$tree" {{OLD}}
    trap 'git worktree remove --force "$tree"' EXIT
    (cd "$tree" && cargo build --locked)
    tests/rehearse-upgrade.sh "$tree/target/debug/loyalty" target/debug/loyalty

# Each fault of the storm thirty times.
soak:
    LOYALTY_STORM_TIMES=30 cargo test --release -p loyalty --test storm -- --nocapture

# The simulator: N seeds, then the bugs it must find.
sim N="5000":
    cargo run --release -p sim -- --seeds {{N}}
    cargo run --release -p sim -- --planted

# The property and fuzz tests N times, each time with cases of its own; a failure names the seed.
fuzz N="100":
    #!/usr/bin/env bash
    set -euo pipefail
    for (( n = 0; n < {{N}}; n++ )); do
        export PROPTEST_RNG_SEED=$RANDOM$RANDOM
        echo "PROPTEST_RNG_SEED=$PROPTEST_RNG_SEED"
        cargo test --quiet -p ledger-core -p ledger-schemas -p intake --lib --test specs --test fuzz
        cargo test --quiet -p loyalty --bin loyalty fuzz
    done

# The demo: import, verify, serve.
run *ARGS:
    cargo run --release -- demo {{ARGS}}

# Which changes of the core its own tests don't notice: each is built and tested, 1,100 of them. Takes two hours on two cores; `mutants.toml` names those that no test can notice.
mutants *ARGS:
    #!/usr/bin/env bash
    set -euo pipefail
    command -v cargo-mutants >/dev/null || cargo install cargo-mutants --version 27.1.0 --locked
    quick="--skip model:: --skip fuzz:: --skip the_order_and_parts"
    cargo mutants --config mutants.toml --package ledger-core --test-package ledger-core --jobs 2 {{ARGS}} -- --lib --test specs -- $quick || true
    # What the quick tests missed, by all of them.
    cargo mutants --config mutants.toml --package ledger-core --test-package ledger-core --jobs 2 --iterate {{ARGS}} -- --lib --test specs

# The tables of docs/benchmarks.md.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}

# Generated files: the rulebook's JSON Schema, golden bytes of what is new, the time zone database of the release in Cargo.lock.
generate:
    cargo run -- schema rulebook > schemas/rulebook.schema.json
    GOLDEN=write cargo test -p ledger-schemas
    GOLDEN=write cargo test -p ledger-core --test zones
