// Makes two restored servers ready for a recovery. Deploy it after `deltacompare record`: a resize
// restarts the servers, and what the record reads may be gone then. Safe to deploy again; the
// passwords are new each time, and the app reads them again when the old ones are refused.

targetScope = 'resourceGroup'

@description('The server that lost its slot: its list of allowed extensions is kept.')
param sourceServerId string
param baseServerName string
param headServerName string

@description('main.bicep\'s vault, in this resource group.')
param vaultName string

@description('New passwords of the two administrators. They go to the servers and the vault, and are not shown.')
@secure()
param basePassword string = 'Dc1-${newGuid()}'
@secure()
param headPassword string = 'Dc1-${newGuid()}'

@description('Whether to set the two passwords and the size here. false after `az postgres flexible-server update` has set them: the vault then gets the passwords that you give.')
param updateServers bool = true

@description('Days until the two passwords in the vault are marked as expired.')
@minValue(1)
param passwordDays int = 30
param now string = utcNow()

@description('public: base lets Azure services in, as head has no address of its own; that rule admits every tenant of Azure, and only passwords and TLS stand before it. vnet: the servers reach each other in their virtual network.')
@allowed(['public', 'vnet'])
param network string

@description('The address that head connects from, where it is known: the rule then admits only it.')
param headEgressAddress string = ''

@description('main.bicep\'s subnet for private endpoints: the app then reaches public-mode servers privately. Empty: over the rule.')
param endpointSubnetId string = ''

@description('main.bicep\'s output of that name: a private endpoint is in the region of its network, which need not be the servers\'.')
param endpointLocation string = 'centralindia'

@description('main.bicep\'s output of that name, where it was given one: the group that has privatelink.postgres.database.azure.com.')
param privateZonesGroupId string = resourceGroup().id

@description('A bigger size for both, for example Standard_D16ds_v5 and GeneralPurpose; empty keeps the source\'s.')
param skuName string = ''
@allowed(['', 'Burstable', 'GeneralPurpose', 'MemoryOptimized'])
param skuTier string = ''

resource restoredBase 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  name: baseServerName
}

resource restoredHead 'Microsoft.DBforPostgreSQL/flexibleServers@2025-08-01' existing = {
  name: headServerName
}

module base 'modules/prepared_server.bicep' = {
  params: {
    name: baseServerName
    sourceServerId: sourceServerId
    location: restoredBase.location
    tags: restoredBase.tags
    vaultName: vaultName
    updates: updateServers
    password: basePassword
    validUntil: dateTimeAdd(now, 'P${passwordDays}D')
    azureServices: network == 'public' && empty(headEgressAddress)
    admittedAddress: network == 'public' ? headEgressAddress : ''
    endpointSubnetId: network == 'public' ? endpointSubnetId : ''
    endpointLocation: endpointLocation
    privateZonesGroupId: privateZonesGroupId
    skuName: skuName
    skuTier: skuTier
  }
}

module head 'modules/prepared_server.bicep' = {
  params: {
    name: headServerName
    sourceServerId: sourceServerId
    location: restoredHead.location
    tags: restoredHead.tags
    vaultName: vaultName
    updates: updateServers
    password: headPassword
    validUntil: dateTimeAdd(now, 'P${passwordDays}D')
    azureServices: network == 'public' && empty(endpointSubnetId)
    admittedAddress: ''
    endpointSubnetId: network == 'public' ? endpointSubnetId : ''
    endpointLocation: endpointLocation
    privateZonesGroupId: privateZonesGroupId
    skuName: skuName
    skuTier: skuTier
  }
}

output baseHost string = '${baseServerName}.postgres.database.azure.com'
output headHost string = '${headServerName}.postgres.database.azure.com'
