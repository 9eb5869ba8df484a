// Types that several templates share.

@export()
@description('Tags of a resource.')
type tagsType = {
  *: string
}

@description('Storage, vault and an Event Hub made here are on the internet, with identities as their only guard.')
type publicNetworkType = {
  kind: 'public'
}

@description('A virtual network is made for the app and its private endpoints.')
type newNetworkType = {
  kind: 'new'
  addressPrefix: string
  @description('Subnet of the app.')
  appSubnetPrefix: string
  @description('Subnet of the private endpoints.')
  endpointSubnetPrefix: string
  @description('Private addresses that reach the endpoints besides the app: operators and consumers in networks that you peer with this one.')
  peerPrefixes: string[]?
}

@description('A virtual network of yours. Restores in a virtual network must be reachable from it.')
type existingNetworkType = {
  kind: 'existing'
  @description('Resource id of the app\'s subnet, delegated to Microsoft.App/environments.')
  appSubnetId: string
  @description('Resource id of the subnet for private endpoints.')
  endpointSubnetId: string
  @description('Resource id of the group that has the network\'s private DNS zones (privatelink.*): a network knows only one zone of a name. None makes them.')
  privateZonesGroupId: string?
}

@export()
@description('How the app reaches storage, vault, Event Hub and servers.')
@discriminator('kind')
type networkType = publicNetworkType | newNetworkType | existingNetworkType

@export()
type alertType = {
  name: string
  title: string
  @description('0 is critical, 4 is verbose.')
  severity: 0 | 1 | 2 | 3 | 4
  @description('KQL; each row that it yields is a reason to alert.')
  query: string
  @description('The time range that the rule covers, as an ISO 8601 duration.')
  window: string
  @description('A longer time range for the query alone; null is the window.')
  range: string?
}
