package deploy

const dashboardFile = root + "/deploy/grafana/entra-sidecar.json"
