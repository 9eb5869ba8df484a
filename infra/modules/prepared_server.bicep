// One restored server: password, size, allowed extensions, and who reaches it. One thing after the
// other: a flexible server refuses a second change while it makes the first (ServerIsBusy).

import { tagsType } from '../types.bicep'

param name string
param sourceServerId string
param location string
param tags tagsType
param vaultName string
@description('false where the password was set otherwise: it goes to the vault alone.')
param updates bool
@secure()
param password string
@description('Until when the vault marks the password as valid.')
param validUntil string
param azureServices bool
param admittedAddress string
param endpointSubnetId string
param endpointLocation string
param privateZonesGroupId string
param skuName string
param skuTier string

var sourceParts = split(sourceServerId, '/')

resource source 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  scope: resourceGroup(sourceParts[2], sourceParts[4])
  name: sourceParts[8]

  resource extensions 'configurations' existing = {
    name: 'azure.extensions'
  }
}

var allowed = source::extensions.properties.value

resource changed 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' = if (updates) {
  name: name
  location: location
  tags: tags
  sku: empty(skuName) ? null : { name: skuName, tier: skuTier }
  properties: {
    createMode: 'Update'
    administratorLoginPassword: password
  }
}

resource server 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  name: name

  resource extensions 'configurations' = {
    name: 'azure.extensions'
    properties: {
      source: 'user-override'
      value: join(union(empty(allowed) ? [] : split(replace(toUpper(allowed), ' ', ''), ','), ['POSTGRES_FDW']), ',')
    }
    dependsOn: [changed]
  }
}

// scripts/teardown removes the servers, and the rules with them.
resource everyTenant 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = if (azureServices) {
  parent: server
  name: 'deltacompare-azure-services'
  properties: { startIpAddress: '0.0.0.0', endIpAddress: '0.0.0.0' }
  dependsOn: [server::extensions]
}

resource oneAddress 'Microsoft.DBforPostgreSQL/flexibleServers/firewallRules@2025-08-01' = if (!empty(admittedAddress)) {
  parent: server
  name: 'deltacompare-head'
  properties: { startIpAddress: admittedAddress, endIpAddress: admittedAddress }
  dependsOn: [server::extensions]
}

module endpoint 'private_endpoint.bicep' = if (!empty(endpointSubnetId)) {
  params: {
    name: '${name}-pe'
    location: endpointLocation
    tags: tags
    subnetId: endpointSubnetId
    targetId: server.id
    service: 'postgresqlServer'
    zonesGroupId: privateZonesGroupId
    zoneName: 'privatelink.postgres.database.azure.com'
  }
  dependsOn: [server::extensions]
}

resource vault 'Microsoft.KeyVault/vaults@2026-02-01' existing = {
  name: vaultName

  resource secret 'secrets' = {
    name: '${name}-password'
    // scripts/teardown removes only what has them.
    tags: tags
    properties: {
      value: password
      contentType: 'password'
      attributes: { exp: dateTimeToEpoch(validUntil) }
    }
    dependsOn: [changed]
  }
}
