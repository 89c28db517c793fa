#!/bin/sh
# From the data to both bundled models: sh bundled.sh DATA OUT
# DATA is the folder of the training sets that the YAML files name. Each model is written to OUT, then takes its place in
# the package. The ranker starts from the vocabulary and the token vectors of the retriever that stands there, which is the
# first stage; only then do the second and the third take its place.
# The retriever takes three quarters of an hour on one CPU core and gives the same bytes each time; the ranker takes seven minutes on a
# large GPU, and would take a day on a CPU. PYTHON: the Python to use.
set -eu
BLOOMZ_DATA=$(cd "$1" && pwd)
export BLOOMZ_DATA
python=${PYTHON:-python}
recipes=$(cd "$(dirname "$0")" && pwd)
bundled=$("$python" -c "from haystack_integrations.common.bloomz.checkpoint import BUNDLED_FOLDER; print(BUNDLED_FOLDER)")
train() {
    kind=$1 name=$2
    shift 2
    "$python" -m bloomz_haystack.training.train "$kind" --config "$recipes/$name.yaml" --out "$out/$name" "$@"
    for file in config.json model.safetensors tokenizer.json tokenizer_config.json training.json; do
        cp "$out/$name/$file" "$bundled/tiny-fr-en-$kind/$file"
    done
}
out=$2
train retriever tiny-fr-en-retriever-1
train ranker tiny-fr-en-ranker
train retriever tiny-fr-en-retriever-2 --base "$out/tiny-fr-en-retriever-1"
train retriever tiny-fr-en-retriever --base "$out/tiny-fr-en-retriever-2"
