"""The commands and Python blocks of the pages that no test runs, and why; a key is a pattern for the whole of one."""

CLUSTER = "needs a Kubernetes cluster; tests/manifests checks what is applied to it"
IMAGE = "builds an image, which needs a registry and gigabytes"
CLOUD = "starts machines"
RAY_CLUSTER = "needs a Ray cluster that stays; tests/jobs starts one"
SERVER = "serves until it is ended, or needs such a server; tests/serving starts vLLM and its servers"
INSTALLATION = "installs what is installed where tests run: make and the workflows begin with it"
TESTS = "the tests and programs themselves: make and the workflows run them"
GPU = "needs a GPU"
WHEEL = "the whole demo, which tests/test_wheel.py runs as an installed package does"
HUB = "needs the Hugging Face hub; tests/sharing has a stand-in for it"
BUCKET = "needs a bucket"
LLAMA_CPP = "needs a checkout of llama.cpp; tests/exporting says which"

NOT_RUN = {
    "docker build *": IMAGE,
    "kind create cluster": CLUSTER,
    "kind load docker-image *": CLUSTER,
    "helm install kuberay-operator *": CLUSTER,
    "kubectl create namespace drop-ray": CLUSTER,
    "kubectl apply -k manifests/*": CLUSTER,
    "kubectl -n drop-ray *": CLUSTER,
    "kubectl delete namespace drop-ray": CLUSTER,
    "export HEAD=$(kubectl *": CLUSTER,
    "export RAY_AUTH_MODE=token": CLUSTER,
    "export RAY_AUTH_TOKEN=$(kubectl *)": CLUSTER,
    "drop-ray submit my.yaml --address *": RAY_CLUSTER,
    "ray job submit --address *": RAY_CLUSTER,
    "cluster/local.sh start --nodes 3": RAY_CLUSTER,
    "cluster/local.sh status": RAY_CLUSTER,
    "cluster/local.sh stop": RAY_CLUSTER,
    "ray up cluster/*.yaml": CLOUD,
    "drop-ray serve *": SERVER,
    "vllm serve *": SERVER,
    "llm = vllm.LLM(*": SERVER,
    "drop-ray bench my.yaml --server *": SERVER,
    "drop-ray run demo.yaml": WHEEL,
    "drop-ray push *": HUB,
    "drop-ray compare my.yaml s3://*": BUCKET,
    "drop-ray export * --format gguf *": LLAMA_CPP,
    "python3 -m venv .venv": INSTALLATION,
    "pip install *": INSTALLATION,
    "pre-commit install": INSTALLATION,
    "make demo": TESTS,
    "make lint*": TESTS,
    "make test*": TESTS,
    "make benchmark": TESTS,
    "python tests/*.py": TESTS,
    "python -m pytest -m gpu": GPU,
    "python tests/benchmarks/gpu_scoring.py FOLDER": GPU,
}
