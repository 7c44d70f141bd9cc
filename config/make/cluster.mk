# A real Kubernetes cluster (e2e/cluster) and our images. E2E_PROVIDER = bare, kind or existing; default: what works here.

CLUSTER := e2e/cluster/cluster

.PHONY: cluster cluster-down images
cluster: ## bring up a two-node Kubernetes cluster on this machine
	@$(CLUSTER) up

cluster-down: ## remove it without a trace
	@$(CLUSTER) down

images: cluster ## build the operator and runtime images and push them to the cluster's registry
	@$(CLUSTER) load-images
