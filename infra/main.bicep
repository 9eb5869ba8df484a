// The app and all that it needs but the two restored servers: those come from restore.bicep and are
// made ready by prepare.bicep. Safe to deploy again, with other settings as well.
//
// API versions: each is a type of github.com/Azure/bicep-types-az at commit 1f896de2 (2026-08-20),
// under generated/; infra/api-versions.txt lists them, and scripts/check-infra holds the templates to
// that list. Roles: learn.microsoft.com/azure/role-based-access-control/built-in-roles.
//
// Names and conditions of modules depend on parameters only, not on what another module puts out:
// what-if can then tell what a deployment would change.

targetScope = 'resourceGroup'

import { networkType, tagsType } from 'types.bicep'

@description('The beginning of every resource name; what follows is made of the subscription, the resource group and this.')
@minLength(2)
@maxLength(12)
param name string = 'deltacompare'

@description('Region of everything made here. Flex Consumption must be offered there: az functionapp list-flexconsumption-locations. The servers may be in another region.')
param location string = 'centralindia'

param tags tagsType = { project: 'deltacompare' }

@description('Names of the two restored servers, as restore.bicep was given them; empty until they are known.')
param baseServerName string = ''
param headServerName string = ''

@description('The database to recover.')
param databaseName string = ''

@description('The source\'s administrator, which the restores have too. The app logs in as it, with the password that prepare.bicep makes.')
param administratorLogin string = ''

@description('The server that lost its slot: its storage is watched while the new slot waits. Empty: not watched.')
param sourceServerId string = ''

@description('TLS from head to base. verify-full needs a head of PostgreSQL 16 or newer, or an authority\'s certificate on head.')
@allowed(['require', 'verify-full'])
param fdwSslMode string = 'require'

@description('Resource id of the Event Hub that the pipeline uses; empty makes a namespace and a hub.')
param existingEventHubId string = ''
@description('Reach that Event Hub by a private endpoint too: for a namespace that takes nothing from the internet.')
param existingEventHubPrivate bool = false
param eventHubName string = 'changes'
@minValue(1)
@maxValue(32)
param eventHubPartitions int = 4
@minValue(1)
@maxValue(40)
param eventHubThroughputUnits int = 2
param consumerGroupName string = 'landing'

param network networkType = {
  kind: 'new'
  addressPrefix: '10.111.0.0/24'
  appSubnetPrefix: '10.111.0.0/26'
  endpointSubnetPrefix: '10.111.0.64/26'
}

@description('Public addresses or prefixes from which operators reach the vault and an Event Hub made here, for work without the app and for scripts/teardown --vault. Only for a network that is not public.')
param operatorPrefixes string[] = []

@description('Public addresses or prefixes from which consumers reach an Event Hub made here. Only for a network that is not public.')
param consumerPrefixes string[] = []

@description('Whether secrets and the vault outlive an attempt to purge them. Once on it cannot be turned off, and the name of a removed vault stays taken for 7 days.')
param vaultPurgeProtection bool = true

@description('Who gets mail from alerts; empty makes alerts without mail.')
param alertEmail string = ''

@description('The most instances of each group of functions; the service takes no fewer than 40. How many items are at work at once is the recovery\'s `parallel`, whatever stands here.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

var suffix = uniqueString(subscription().id, resourceGroup().id, name)
var makesEventHub = empty(existingEventHubId)
var hubIdParts = split(existingEventHubId, '/')
var hubSubscription = makesEventHub ? subscription().subscriptionId : hubIdParts[2]
var hubResourceGroup = makesEventHub ? resourceGroup().name : hubIdParts[4]
var private = network.kind != 'public'
var makesNetwork = network.kind == 'new'
var networkName = '${name}-vnet-${suffix}'
var appSubnetId = makesNetwork ? resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'app') : network.?appSubnetId ?? ''
var endpointSubnetId = makesNetwork ? resourceId('Microsoft.Network/virtualNetworks/subnets', networkName, 'endpoints') : network.?endpointSubnetId ?? ''
var makesZones = private && empty(network.?privateZonesGroupId ?? '')
var zonesGroupId = !private ? '' : makesZones ? resourceGroup().id : network.?privateZonesGroupId ?? ''
var eventHubPrivate = private && (makesEventHub || existingEventHubPrivate)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-id-${suffix}'
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    name: name
    suffix: suffix
    location: location
    tags: tags
    identityId: identity.id
    principalId: identity.properties.principalId
  }
}

module virtualNetwork 'modules/network.bicep' = if (makesNetwork) {
  params: {
    networkName: networkName
    name: name
    suffix: suffix
    location: location
    tags: tags
    addressPrefix: network.?addressPrefix ?? ''
    appSubnetPrefix: network.?appSubnetPrefix ?? ''
    endpointSubnetPrefix: network.?endpointSubnetPrefix ?? ''
    peerPrefixes: network.?peerPrefixes ?? []
  }
}

// Not one more than is used: in its network a zone hides what is not in it.
var zoneNames = [
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
  'privatelink.vaultcore.azure.net'
  'privatelink.postgres.database.azure.com'
]
var eventHubZone = 'privatelink.servicebus.windows.net'

module zones 'modules/private_zones.bicep' = if (makesZones) {
  params: {
    names: eventHubPrivate ? concat(zoneNames, [eventHubZone]) : zoneNames
    networkId: split(appSubnetId, '/subnets/')[0]
    tags: tags
  }
  dependsOn: [virtualNetwork]
}

module storage 'modules/storage.bicep' = {
  params: {
    name: 'dc${suffix}'
    location: location
    tags: tags
    identityId: identity.id
    principalId: identity.properties.principalId
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnetId
    privateZonesGroupId: zonesGroupId
  }
  dependsOn: [virtualNetwork, zones]
}

module vault 'modules/vault.bicep' = {
  params: {
    name: 'dc-${suffix}'
    location: location
    tags: tags
    identityId: identity.id
    principalId: identity.properties.principalId
    purgeProtection: vaultPurgeProtection
    admittedPrefixes: operatorPrefixes
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnetId
    privateZonesGroupId: zonesGroupId
  }
  dependsOn: [virtualNetwork, zones]
}

module eventHub 'modules/event_hub.bicep' = if (makesEventHub) {
  params: {
    name: '${name}-${suffix}'
    location: location
    tags: tags
    hubName: eventHubName
    partitions: eventHubPartitions
    throughputUnits: eventHubThroughputUnits
    consumerGroupName: consumerGroupName
    identityId: identity.id
    principalId: identity.properties.principalId
    admittedPrefixes: union(operatorPrefixes, consumerPrefixes)
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnetId
    privateZonesGroupId: zonesGroupId
  }
  dependsOn: [virtualNetwork, zones]
}

module existingEventHub 'modules/existing_event_hub.bicep' = if (!makesEventHub) {
  scope: resourceGroup(hubSubscription, hubResourceGroup)
  params: {
    namespaceName: makesEventHub ? '' : hubIdParts[8]
    hubName: makesEventHub ? '' : hubIdParts[10]
    identityId: identity.id
    principalId: identity.properties.principalId
  }
}

module existingEventHubEndpoint 'modules/private_endpoint.bicep' = if (!makesEventHub && eventHubPrivate) {
  params: {
    name: '${name}-eh-pe-${suffix}'
    location: location
    tags: tags
    subnetId: endpointSubnetId
    targetId: join(take(hubIdParts, 9), '/')
    service: 'namespace'
    zonesGroupId: zonesGroupId
    zoneName: eventHubZone
  }
  dependsOn: [virtualNetwork, zones]
}

module app 'modules/app.bicep' = {
  params: {
    name: '${name}-${suffix}'
    location: location
    tags: tags
    identityId: identity.id
    identityClientId: identity.properties.clientId
    storageName: storage.outputs.name
    deploymentContainerUrl: storage.outputs.deploymentContainerUrl
    queueServiceUri: storage.outputs.queueServiceUri
    vaultUri: vault.outputs.uri
    applicationInsightsConnectionString: monitoring.outputs.connectionString
    workspaceId: monitoring.outputs.workspaceId
    appSubnetId: appSubnetId
    baseServerName: baseServerName
    headServerName: headServerName
    databaseName: databaseName
    administratorLogin: administratorLogin
    fdwSslMode: fdwSslMode
    maximumInstanceCount: maximumInstanceCount
    instanceMemoryMB: instanceMemoryMB
  }
  dependsOn: [virtualNetwork]
}

module alerts 'modules/alerts.bicep' = {
  params: {
    name: name
    suffix: suffix
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
    sourceServerId: sourceServerId
  }
}

@description('For az functionapp deployment.')
output appName string = app.outputs.name
output appUrl string = app.outputs.url
@description('For prepare.bicep.')
output vaultName string = vault.outputs.name
output endpointSubnetId string = endpointSubnetId
output endpointLocation string = location
output privateZonesGroupId string = zonesGroupId
@description('For a recovery\'s sink.')
output sink string = makesEventHub ? 'event-hub:${eventHub!.outputs.endpointHost}/${eventHubName}' : 'event-hub:${hubIdParts[8]}.servicebus.windows.net/${hubIdParts[10]}'
@description('For the server\'s Entra roles, where the app logs in with a token.')
output identityName string = identity.name
output identityPrincipalId string = identity.properties.principalId
