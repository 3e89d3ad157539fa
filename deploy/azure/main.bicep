// A managed identity for the sidecar, what lets a Kubernetes service account
// be it, and its roles on an Azure OpenAI resource that exists already.
//
//   az deployment group create --resource-group GROUP --template-file main.bicep \
//     --parameters resourceName=my-resource issuer="$(az aks show … --query oidcIssuerProfile.issuerUrl --output tsv)"
targetScope = 'resourceGroup'

@description('The Azure OpenAI, Foundry or Document Intelligence resource, in this resource group.')
param resourceName string

@description('What the identity is called.')
param identityName string = 'entra-sidecar'

@description('Where the identity is created.')
param location string = resourceGroup().location

@description('OIDC issuer of the cluster. Empty: no federated credential, for a machine that gets the identity assigned.')
param issuer string = ''

@description('Namespace of the service account.')
param namespace string = 'litellm'

@description('The service account: that of LiteLLM with a sidecar, or of the gateway.')
param serviceAccount string = 'litellm'

@allowed([
  'Cognitive Services OpenAI User'
  'Cognitive Services OpenAI Contributor'
  'Cognitive Services User'
  'Azure AI User'
])
@description('What the identity may do on the resource. README.md says which endpoint needs which.')
param roles string[] = ['Cognitive Services OpenAI User']

var roleIds = {
  'Cognitive Services OpenAI User': '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd'
  'Cognitive Services OpenAI Contributor': 'a001fd3d-188f-4b5d-821b-7da978bf7442'
  'Cognitive Services User': 'a97b65f3-24c7-4388-baec-2e87135dc908'
  'Azure AI User': '53ca6127-db72-4b80-b1b0-d745d6d5456d'
}

resource openai 'Microsoft.CognitiveServices/accounts@2024-10-01' existing = {
  name: resourceName
}

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: identityName
  location: location
}

resource federated 'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials@2023-01-31' = if (!empty(issuer)) {
  parent: identity
  name: '${namespace}-${serviceAccount}'
  properties: {
    issuer: issuer
    subject: 'system:serviceaccount:${namespace}:${serviceAccount}'
    audiences: ['api://AzureADTokenExchange']
  }
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in roles: {
    // The same name for the same assignment, so that a second deployment changes nothing.
    name: guid(openai.id, identity.id, roleIds[role])
    scope: openai
    properties: {
      roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleIds[role])
      principalId: identity.properties.principalId
      principalType: 'ServicePrincipal' // without it, a new identity is often not found yet
    }
  }
]

@description('For the annotation azure.workload.identity/client-id, or AZURE_CLIENT_ID.')
output clientId string = identity.properties.clientId

@description('For `az role assignment list --assignee`.')
output objectId string = identity.properties.principalId

@description('For AZURE_OPENAI_ENDPOINT.')
output endpoint string = openai.properties.endpoint
