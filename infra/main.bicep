// The app and all that it needs but the two restored servers: those come from restore.bicep and are
// made ready by prepare.bicep. Safe to deploy again, with other settings as well.
//
// API versions: each is a type of github.com/Azure/bicep-types-az at commit 1f896de2 (2026-08-20),
// under generated/; infra/api-versions.txt lists them, and scripts/check-infra holds the templates to
// that list. Roles: learn.microsoft.com/azure/role-based-access-control/built-in-roles.

targetScope = 'resourceGroup'

@description('The beginning of every resource name; what follows is made of the subscription, the resource group and this.')
@minLength(2)
@maxLength(12)
param name string = 'deltacompare'

@description('Flex Consumption and PostgreSQL flexible server are to be had in this region.')
param location string = 'centralindia'

param tags object = { project: 'deltacompare' }

@description('Names of the two restored servers, as restore.bicep was given them; empty until they are known.')
param baseServerName string = ''
param headServerName string = ''

@description('The database to recover.')
param databaseName string = ''

@description('The source\'s administrator, which the restores have too. The app logs in as it, with the password that prepare.bicep makes.')
param administratorLogin string = ''

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

@description('Storage, vault and a namespace made here are reached by private endpoints only.')
param privateNetwork bool = true

@description('Subnet for the app, delegated to Microsoft.App/environments, and subnet for private endpoints. Both or none; none makes a virtual network. Restores in a virtual network must be reachable from it.')
param appSubnetId string = ''
param endpointSubnetId string = ''
@description('Of the virtual network that is made.')
param addressPrefix string = '10.111.0.0/24'
param appSubnetPrefix string = '10.111.0.0/26'
param endpointSubnetPrefix string = '10.111.0.64/26'

@description('Resource id of the group that has your network\'s private DNS zones (privatelink.*), for a network that knows such zones already: it can know only one of each name. Empty makes them here.')
param privateZonesGroupId string = ''

@description('Whether secrets and the vault outlive an attempt to purge them. Once on it cannot be turned off, and the name of a removed vault stays taken for 7 days.')
param vaultPurgeProtection bool = true

@description('Who gets mail from alerts; empty makes alerts without mail.')
param alertEmail string = ''

@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 10
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

var suffix = uniqueString(subscription().id, resourceGroup().id, name)
var makesEventHub = empty(existingEventHubId)
var hubIdParts = split(existingEventHubId, '/')
var hubSubscription = makesEventHub ? subscription().subscriptionId : hubIdParts[2]
var hubResourceGroup = makesEventHub ? resourceGroup().name : hubIdParts[4]
var eventHubPrivate = privateNetwork && (makesEventHub || existingEventHubPrivate)
var makesNetwork = privateNetwork && empty(appSubnetId)

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: '${name}-id-${suffix}'
  location: location
  tags: tags
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  params: {
    name: name
    suffix: suffix
    location: location
    tags: tags
    principalId: identity.properties.principalId
  }
}

module network 'modules/network.bicep' = if (makesNetwork) {
  name: 'network'
  params: {
    name: name
    suffix: suffix
    location: location
    tags: tags
    addressPrefix: addressPrefix
    appSubnetPrefix: appSubnetPrefix
    endpointSubnetPrefix: endpointSubnetPrefix
  }
}

var appSubnet = !privateNetwork ? '' : makesNetwork ? network!.outputs.appSubnetId : appSubnetId
var endpointSubnet = !privateNetwork ? '' : makesNetwork ? network!.outputs.endpointSubnetId : endpointSubnetId

// Not one more than is used: in its network a zone hides what is not in it.
var zoneNames = [
  'privatelink.blob.${environment().suffixes.storage}'
  'privatelink.queue.${environment().suffixes.storage}'
  'privatelink.table.${environment().suffixes.storage}'
  'privatelink.vaultcore.azure.net'
  'privatelink.postgres.database.azure.com'
]
var eventHubZone = 'privatelink.servicebus.windows.net'

module zones 'modules/private_zones.bicep' = if (privateNetwork && empty(privateZonesGroupId)) {
  name: 'private-zones'
  params: {
    names: eventHubPrivate ? concat(zoneNames, [eventHubZone]) : zoneNames
    networkId: split(appSubnet, '/subnets/')[0]
    tags: tags
  }
}

var zonesGroup = !privateNetwork ? '' : empty(privateZonesGroupId) ? zones!.outputs.groupId : privateZonesGroupId

module storage 'modules/storage.bicep' = {
  name: 'storage'
  params: {
    name: 'dc${suffix}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnet
    privateZonesGroupId: zonesGroup
  }
}

module vault 'modules/vault.bicep' = {
  name: 'vault'
  params: {
    name: 'dc-${suffix}'
    location: location
    tags: tags
    principalId: identity.properties.principalId
    purgeProtection: vaultPurgeProtection
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnet
    privateZonesGroupId: zonesGroup
  }
}

module eventHub 'modules/event_hub.bicep' = if (makesEventHub) {
  name: 'event-hub'
  params: {
    name: '${name}-${suffix}'
    location: location
    tags: tags
    hubName: eventHubName
    partitions: eventHubPartitions
    throughputUnits: eventHubThroughputUnits
    consumerGroupName: consumerGroupName
    principalId: identity.properties.principalId
    workspaceId: monitoring.outputs.workspaceId
    endpointSubnetId: endpointSubnet
    privateZonesGroupId: zonesGroup
  }
}

module existingEventHub 'modules/existing_event_hub.bicep' = if (!makesEventHub) {
  name: 'existing-event-hub'
  scope: resourceGroup(hubSubscription, hubResourceGroup)
  params: {
    namespaceName: makesEventHub ? '' : hubIdParts[8]
    hubName: makesEventHub ? '' : hubIdParts[10]
    principalId: identity.properties.principalId
  }
}

module existingEventHubEndpoint 'modules/private_endpoint.bicep' = if (!makesEventHub && eventHubPrivate) {
  name: 'existing-event-hub-endpoint'
  params: {
    name: '${name}-eh-pe-${suffix}'
    location: location
    tags: tags
    subnetId: endpointSubnet
    targetId: join(take(hubIdParts, 9), '/')
    service: 'namespace'
    zonesGroupId: zonesGroup
    zoneName: eventHubZone
  }
}

module app 'modules/app.bicep' = {
  name: 'app'
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
    appSubnetId: appSubnet
    baseServerName: baseServerName
    headServerName: headServerName
    databaseName: databaseName
    administratorLogin: administratorLogin
    fdwSslMode: fdwSslMode
    maximumInstanceCount: maximumInstanceCount
    instanceMemoryMB: instanceMemoryMB
  }
}

module alerts 'modules/alerts.bicep' = {
  name: 'alerts'
  params: {
    name: name
    suffix: suffix
    location: location
    tags: tags
    workspaceId: monitoring.outputs.workspaceId
    email: alertEmail
  }
}

@description('For az functionapp deployment.')
output appName string = app.outputs.name
output appUrl string = app.outputs.url
@description('For prepare.bicep.')
output vaultName string = vault.outputs.name
output endpointSubnetId string = endpointSubnet
output privateZonesGroupId string = zonesGroup
@description('For a recovery\'s sink.')
output sink string = makesEventHub ? 'event-hub:${eventHub!.outputs.endpointHost}/${eventHubName}' : 'event-hub:${hubIdParts[8]}.servicebus.windows.net/${hubIdParts[10]}'
@description('For the server\'s Entra roles, where the app logs in with a token.')
output identityName string = identity.name
output identityPrincipalId string = identity.properties.principalId
