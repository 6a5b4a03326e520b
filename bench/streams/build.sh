#!/usr/bin/env bash
# Builds the Kafka Streams application that `loyalty bench --kafka --streams bench/streams` measures beside the ledger. Wants Java 17 and Maven
# (Debian: apt-get install openjdk-17-jdk-headless maven).
set -euo pipefail
cd "$(dirname "$0")"
mvn --quiet --batch-mode package
