// The passwords of the restored servers. The app reads them, prepare.bicep writes them.

import { tagsType } from '../types.bicep'

@minLength(3)
@maxLength(24)
param name string
param location string
param tags tagsType
param identityId string
param principalId string
param purgeProtection bool
@description('Public addresses or prefixes of operators, where there is a private endpoint.')
param admittedPrefixes string[]
param workspaceId string
param endpointSubnetId string
param privateZonesGroupId string

var private = !empty(endpointSubnetId)
var closed = private && empty(admittedPrefixes)
var admitted = [for prefix in admittedPrefixes: { value: prefix }]
var keyVaultSecretsUser = '4633458b-17de-408a-b874-0445c86b69e6'

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    // Cannot be changed later. The servers of these passwords are gone long before that.
    softDeleteRetentionInDays: 7
    // false is refused: it is on, or not said.
    enablePurgeProtection: purgeProtection ? true : null
    publicNetworkAccess: closed ? 'Disabled' : 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: private ? 'Deny' : 'Allow'
      ipRules: private ? admitted : []
    }
  }
}

resource reads 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(vault.id, identityId, keyVaultSecretsUser)
  scope: vault
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', keyVaultSecretsUser)
  }
}

module endpoint 'private_endpoint.bicep' = if (private) {
  params: {
    name: '${name}-pe'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: vault.id
    service: 'vault'
    zonesGroupId: privateZonesGroupId
    zoneName: 'privatelink.vaultcore.azure.net'
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'audit'
  scope: vault
  properties: {
    workspaceId: workspaceId
    logs: [{ categoryGroup: 'audit', enabled: true }]
  }
}

output name string = vault.name
output uri string = vault.properties.vaultUri
