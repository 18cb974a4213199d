# Sourced by the Makefile's targets and by every script: where compiled output goes, and which
# RocksDB it is linked with. Compiled output lives outside the checkout, so that fresh clones share
# it and RocksDB is compiled once.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/drydock
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"

# scripts/rocksdb puts the library there; a ROCKSDB_LIB_DIR from outside wins.
rocksdb_version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p;}' \
    "$(dirname "${BASH_SOURCE[0]}")/../Cargo.lock")
rocksdb_dir=$cache/rocksdb-$rocksdb_version
if [[ -z ${ROCKSDB_LIB_DIR:-} && -e $rocksdb_dir/librocksdb.a ]]; then
    export ROCKSDB_LIB_DIR=$rocksdb_dir
fi
export ROCKSDB_STATIC=1

# rustup may have been installed after this shell was started.
if ! command -v cargo > /dev/null && [[ -e $HOME/.cargo/bin/cargo ]]; then
    export PATH=$HOME/.cargo/bin:$PATH
fi
