// An example. Copy it and put your own values in.
using 'prepare.bicep'

param sourceServerId = '/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/production/providers/Microsoft.DBforPostgreSQL/flexibleServers/shop'
param baseServerName = 'shop-dc-base'
param headServerName = 'shop-dc-head'
param vaultName = 'dc-xxxxxxxxxxxxx'
param network = 'public'
