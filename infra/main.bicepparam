// An example. Copy it and put your own values in.
using 'main.bicep'

param baseServerName = 'shop-dc-base'
param headServerName = 'shop-dc-head'
param databaseName = 'shop'
param administratorLogin = 'shopadmin'
param sourceServerId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/production/providers/Microsoft.DBforPostgreSQL/flexibleServers/shop'
param existingEventHubId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/pipeline/providers/Microsoft.EventHub/namespaces/shop-events/eventhubs/changes'
param alertEmail = 'on-call@example.com'

// Or { kind: 'public' }; or, of a network that exists (privateZonesGroupId if it knows private DNS zones):
// {
//   kind: 'existing'
//   appSubnetId: '…/subnets/app'
//   endpointSubnetId: '…/subnets/endpoints'
//   privateZonesGroupId: '/subscriptions/…/resourceGroups/…'
// }
param network = {
  kind: 'new'
  addressPrefix: '10.111.0.0/24'
  appSubnetPrefix: '10.111.0.0/26'
  endpointSubnetPrefix: '10.111.0.64/26'
}
