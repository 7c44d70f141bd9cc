# A real Kubernetes cluster (e2e/cluster) and our images. E2E_PROVIDER = bare, kind or existing; default: what works here.

CLUSTER := e2e/cluster/cluster

.PHONY: cluster cluster-down images images-reproducible programs
# Before tests, never in them: there four would wait for one, and nobody would see for what.
programs: ## bring what tests run on: etcd, Kubernetes, helm and Prometheus, once, then cached
	@$(CLUSTER) programs

cluster: ## bring up a two-node Kubernetes cluster on this machine
	@$(CLUSTER) up

cluster-down: ## remove it without a trace
	@$(CLUSTER) down

# On this machine's own cluster the engine is built for its CPU, with the wheel of `make up`; for others it is portable.
images: cluster ## build the operator and runtime images and push them to the cluster's registry
	@$(CLUSTER) load-images $(if $(filter existing,$(E2E_PROVIDER)),,--native)

images-reproducible: ## build the images twice from one base archive: their digests are equal
	@$(CLUSTER) reproduce-images
